// Plain REST over a kubeconfig: for callers that work with any kind (the command line, the supervisor of the local
// cluster). Typed informers for controllers live beside this file. Credentials are never part of an error.
import { KubeConfig, Exec, type V1Status } from '@kubernetes/client-node';
import https from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { errorMessage, MeshError } from '../errors.ts';

const REQUEST_TIMEOUT_MS = 30_000;

/** Any Kubernetes object. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly creationTimestamp?: string;
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

/** A request. `contentType` defaults to JSON; `query` values are encoded. */
export interface RestRequest {
  readonly method?: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
}

/** Kubernetes said no; `status` is the HTTP status, `reason` Kubernetes' word for it. */
export class KubeApiError extends MeshError {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super('kube_api', message);
    this.status = status;
    this.reason = reason;
  }
}

/** A server named by a kubeconfig. */
export class RestClient {
  readonly #config: KubeConfig;
  readonly #server: string;
  readonly #agent = new https.Agent({ keepAlive: true });

  private constructor(config: KubeConfig) {
    const cluster = config.getCurrentCluster();
    if (cluster === null)
      throw new MeshError('no_cluster', 'the kubeconfig names no current cluster');
    this.#config = config;
    this.#server = cluster.server;
  }

  /** Loads a kubeconfig file, or with no path what kubectl would use. */
  static load(path?: string): RestClient {
    const config = new KubeConfig();
    try {
      if (path === undefined) config.loadFromDefault();
      else config.loadFromFile(path);
    } catch (cause) {
      throw new MeshError('bad_kubeconfig', `cannot read the kubeconfig: ${errorMessage(cause)}`, {
        cause,
      });
    }
    return new RestClient(config);
  }

  /** Address of the API server, for messages. */
  get server(): string {
    return this.#server;
  }

  /** Sends a request and parses the JSON answer. Throws {@link KubeApiError} for a status of 400 or more. */
  async json<T = KubeObject>(request: RestRequest): Promise<T> {
    return JSON.parse(await this.text(request)) as T;
  }

  /** As {@link json}, for answers that are text. */
  async text(request: RestRequest): Promise<string> {
    const response = await this.open(request);
    let body = '';
    for await (const chunk of response) body += String(chunk);
    if ((response.statusCode ?? 500) >= 400) throw apiError(response.statusCode ?? 500, body);
    return body;
  }

  /** Sends a request and returns the answer as a stream (logs, watches). The caller ends it. */
  async open(request: RestRequest): Promise<IncomingMessage> {
    const url = new URL(this.#server.replace(/\/$/, '') + request.path);
    for (const [key, value] of Object.entries(request.query ?? {}))
      url.searchParams.set(key, value);
    const headers: Record<string, string> = { accept: request.accept ?? 'application/json' };
    const body = request.body === undefined ? undefined : encodeBody(request.body);
    if (body !== undefined) headers['content-type'] = request.contentType ?? 'application/json';
    const options: https.RequestOptions = {
      method: request.method ?? 'GET',
      headers,
      agent: this.#agent,
    };
    await this.#config.applyToHTTPSOptions(options);
    // client-node sets an agent of its own, one for each request; ours keeps connections.
    options.agent = this.#agent;
    return new Promise((resolve, reject) => {
      const outgoing = https.request(url, options, (response) => {
        outgoing.setTimeout(0);
        resolve(response);
      });
      outgoing.setTimeout(REQUEST_TIMEOUT_MS, () => outgoing.destroy(new Error('timed out')));
      outgoing.on('error', (cause) =>
        reject(
          new MeshError(
            'unreachable',
            `cannot reach the API server at ${this.#server}: ${cause.message}`,
            { cause },
          ),
        ),
      );
      outgoing.end(body);
    });
  }

  /** Runs a command in a container; resolves with its exit code. */
  exec(target: ExecTarget, io: ExecStreams): Promise<number> {
    return new Promise((resolve, reject) => {
      const done = (status: V1Status): void => resolve(exitCode(status));
      new Exec(this.#config)
        .exec(
          target.namespace,
          target.pod,
          target.container,
          [...target.command],
          io.stdout,
          io.stderr,
          io.stdin,
          io.tty,
          done,
        )
        .then((socket) => {
          socket.on('error', (cause) =>
            reject(new MeshError('exec', `exec failed: ${cause.message}`, { cause })),
          );
        })
        .catch((cause: unknown) =>
          reject(new MeshError('exec', `exec failed: ${errorMessage(cause)}`, { cause })),
        );
    });
  }

  /** Closes idle connections. */
  close(): void {
    this.#agent.destroy();
  }
}

/** Where a command runs. */
export interface ExecTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly command: readonly string[];
}

/** A command's streams. */
export interface ExecStreams {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly stdin: Readable | null;
  readonly tty: boolean;
}

function encodeBody(body: unknown): string {
  return typeof body === 'string' ? body : JSON.stringify(body);
}

function exitCode(status: V1Status): number {
  if (status.status === 'Success') return 0;
  const cause = status.details?.causes?.find((each) => each.reason === 'ExitCode');
  return Number(cause?.message ?? '1');
}

function apiError(status: number, body: string): KubeApiError {
  try {
    const parsed = JSON.parse(body) as { message?: string; reason?: string };
    return new KubeApiError(status, parsed.reason ?? '', parsed.message ?? `HTTP status ${status}`);
  } catch {
    return new KubeApiError(status, '', body.trim() || `HTTP status ${status}`);
  }
}
