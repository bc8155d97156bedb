// The kubelet's HTTP server on the node's address: logs, exec and port-forward, called by the API server with a
// shared bearer token. Paths and query names are the kubelet's; the API server's own names are taken as well.
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { errorMessage } from '../../common/errors.ts';
import { EXEC_PROTOCOLS, serveExec } from './exec.ts';
import { log } from './log.ts';
import { serveLogs } from './logs.ts';
import type { PodSet } from './pod-set.ts';
import { PORT_FORWARD_PROTOCOL, serveSpdyUpgrade, serveTunnel } from './port-forward.ts';

export interface ServerOptions {
  readonly token: string;
  readonly pods: PodSet;
}

interface Target {
  readonly action: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string | undefined;
  readonly query: URLSearchParams;
}

function parseTarget(request: IncomingMessage): Target {
  const url = new URL(request.url ?? '/', 'http://kubelet');
  const [action = '', namespace = '', pod = '', ...rest] = url.pathname
    .split('/')
    .slice(1)
    .map(decodeURIComponent);
  const container = rest.at(-1) ?? url.searchParams.get('container') ?? undefined;
  return { action, namespace, pod, container, query: url.searchParams };
}

function isSame(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

export class KubeletServer {
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #exec: WebSocketServer;
  readonly #tunnel: WebSocketServer;

  constructor(options: ServerOptions) {
    this.#options = options;
    const choose = (known: readonly string[]) => (offered: Set<string>) =>
      known.find((name) => offered.has(name)) ?? false;
    this.#exec = new WebSocketServer({
      noServer: true,
      handleProtocols: choose(EXEC_PROTOCOLS),
      maxPayload: 4 << 20,
    });
    this.#tunnel = new WebSocketServer({
      noServer: true,
      handleProtocols: choose([PORT_FORWARD_PROTOCOL]),
      maxPayload: 4 << 20,
    });
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => socket.destroy());
      this.#upgrade(request, socket, head);
    });
  }

  open(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, resolve);
    });
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    for (const server of [this.#exec, this.#tunnel]) {
      for (const client of server.clients) client.terminate();
      server.close();
    }
  }

  #isAllowed(request: IncomingMessage): boolean {
    const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    return isSame(given, this.#options.token);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const refuse = (status: number, text: string): void => {
      response.writeHead(status, { 'content-type': 'text/plain' });
      response.end(`${text}\n`);
    };
    if (request.url === '/healthz') {
      refuse(200, 'ok');
      return;
    }
    if (!this.#isAllowed(request)) {
      refuse(401, 'unauthorized');
      return;
    }
    const target = parseTarget(request);
    const worker = this.#options.pods.find(target.namespace, target.pod);
    if (worker === undefined) {
      refuse(404, `pod ${target.pod} not found on this node`);
      return;
    }
    if (target.action !== 'containerLogs') {
      refuse(400, 'this path needs an upgrade');
      return;
    }
    const name = target.container ?? worker.pod.spec.containers[0]?.name ?? '';
    serveLogs(worker, name, target.query, response).catch((err: unknown) => {
      if (response.headersSent) response.destroy();
      else refuse(400, errorMessage(err));
    });
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const refuse = (status: string, text: string): void => {
      const length = Buffer.byteLength(text);
      socket.end(
        `HTTP/1.1 ${status}\r\ncontent-length: ${length}\r\nconnection: close\r\n\r\n${text}`,
      );
    };
    if (!this.#isAllowed(request)) {
      refuse('401 Unauthorized', 'unauthorized');
      return;
    }
    const target = parseTarget(request);
    const worker = this.#options.pods.find(target.namespace, target.pod);
    if (worker === undefined) {
      refuse('404 Not Found', `pod ${target.pod} not found`);
      return;
    }
    const isWebSocket = request.headers.upgrade?.toLowerCase() === 'websocket';
    log.debug({ path: target.action, pod: target.pod, isWebSocket }, 'stream requested');
    if (target.action === 'exec' && isWebSocket) {
      const container = worker.container(target.container);
      const pid = container?.pid;
      if (container === undefined || pid === undefined) {
        refuse('400 Bad Request', 'the container is not running');
        return;
      }
      this.#exec.handleUpgrade(request, socket, head, (ws) => {
        serveExec(ws, container, pid, target.query);
      });
      return;
    }
    if (target.action === 'portForward') {
      if (worker.podIp === undefined) {
        refuse('400 Bad Request', 'the pod has no address');
        return;
      }
      const { netns } = worker;
      if (isWebSocket) {
        this.#tunnel.handleUpgrade(request, socket, head, (ws) => serveTunnel(ws, netns));
      } else serveSpdyUpgrade(socket, head, netns);
      return;
    }
    refuse(
      '400 Bad Request',
      `cannot serve ${target.action} over ${request.headers.upgrade ?? ''}`,
    );
  }
}
