// The socket on which the CNI plugin announces starting pods: HTTP over a unix socket, POST /cmdadd with Istio's
// JSON; 200 means enrolled, everything else fails the pod's start.
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { errorMessage, MeshError } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { parseAddEvent, type CniAddEvent } from '../rules/event.ts';

const MAX_BODY_BYTES = 64 * 1024;

export interface PluginEventsOptions {
  readonly path: string;
  readonly logger: Logger;
  readonly onAdd: (event: CniAddEvent) => Promise<void>;
  readonly onAnswer: (status: number) => void;
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

export class PluginEvents {
  readonly #options: PluginEventsOptions;
  readonly #server: Server;

  constructor(options: PluginEventsOptions) {
    this.#options = options;
    this.#server = createServer({ requestTimeout: 10_000 }, (request, response) => {
      this.#answer(request, response).catch((err: unknown) => {
        options.logger.warn({ err: errorMessage(err) }, 'plugin request broke off');
        response.destroy();
      });
    });
  }

  /** Listens; a socket an earlier agent left is replaced. */
  async open(): Promise<void> {
    const { path } = this.#options;
    mkdirSync(dirname(path), { recursive: true });
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (cause) =>
        reject(new MeshError('no_socket', `cannot listen on ${path}`, { cause })),
      );
      this.#server.listen(path, resolve);
    });
    chmodSync(path, 0o666);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    rmSync(this.#options.path, { force: true });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, text } = await this.#handle(request);
    this.#options.onAnswer(status);
    response.writeHead(status, { 'content-type': 'text/plain' });
    response.end(text);
  }

  async #handle(request: IncomingMessage): Promise<{ status: number; text: string }> {
    if (request.method !== 'POST' || request.url !== '/cmdadd') {
      return { status: 404, text: 'not found\n' };
    }
    const body = await readBody(request);
    const event = body === undefined ? undefined : parseAddEvent(body);
    if (event === undefined) return { status: 400, text: 'not a CNI event\n' };
    const pod = `${event.PodNamespace}/${event.PodName}`;
    try {
      await this.#options.onAdd(event);
      return { status: 200, text: '' };
    } catch (err) {
      this.#options.logger.warn({ pod, err: errorMessage(err) }, 'pod not enrolled at its start');
      return { status: 500, text: `${errorMessage(err)}\n` };
    }
  }
}
