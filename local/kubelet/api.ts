// A small Kubernetes API client for the kubelet: JSON requests, and list + watch with resume. The kubelet needs
// no more, starts in a fraction of a second without a client library, and can be told to connect to another
// address than the kubeconfig's (the relay on the bridge) while still verifying the original name.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import { parse } from 'yaml';
import { sleep, systemClock } from '../../common/clock.ts';
import { MeshError } from '../../common/errors.ts';
import type { KubeObject } from './objects.ts';

/** An answer with a status of 400 or more. */
export class ApiError extends MeshError {
  readonly status: number;

  constructor(status: number, message: string) {
    super('api_error', message);
    this.status = status;
  }
}

export interface ApiAccess {
  readonly server: URL;
  readonly token?: string;
  readonly tls: {
    readonly ca?: Buffer;
    readonly cert?: Buffer;
    readonly key?: Buffer;
    readonly rejectUnauthorized: boolean;
  };
}

interface KubeConfigFile {
  readonly 'current-context'?: string;
  readonly contexts?: readonly {
    readonly name: string;
    readonly context: { readonly cluster: string; readonly user: string };
  }[];
  readonly clusters?: readonly {
    readonly name: string;
    readonly cluster: Readonly<Record<string, string | boolean>>;
  }[];
  readonly users?: readonly {
    readonly name: string;
    readonly user: Readonly<Record<string, string>>;
  }[];
}

function material(
  from: Readonly<Record<string, string | boolean>>,
  key: string,
): Buffer | undefined {
  const inline = from[`${key}-data`];
  if (typeof inline === 'string') return Buffer.from(inline, 'base64');
  const path = from[key];
  return typeof path === 'string' ? readFileSync(path) : undefined;
}

/** Reads the current context of a kubeconfig file. */
export function loadAccess(path: string): ApiAccess {
  const file = parse(readFileSync(path, 'utf8')) as KubeConfigFile;
  const name = file['current-context'];
  const context = file.contexts?.find((entry) => entry.name === name)?.context;
  const cluster = file.clusters?.find((entry) => entry.name === context?.cluster)?.cluster;
  const user = file.users?.find((entry) => entry.name === context?.user)?.user;
  if (typeof cluster?.['server'] !== 'string') {
    throw new MeshError('invalid_config', `kubeconfig ${path} has no usable current context`);
  }
  const token = user?.['token'];
  const ca = material(cluster, 'certificate-authority');
  const cert = user === undefined ? undefined : material(user, 'client-certificate');
  const key = user === undefined ? undefined : material(user, 'client-key');
  return {
    server: new URL(cluster['server']),
    ...(token === undefined ? {} : { token }),
    tls: {
      rejectUnauthorized: cluster['insecure-skip-tls-verify'] !== true,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    },
  };
}

export interface WatchHandlers<T> {
  /** The whole set, after each (re)list. */
  onSnapshot(items: readonly T[]): void;
  onApply(item: T): void;
  onDelete(item: T): void;
}

interface WatchEvent {
  readonly type: string;
  readonly object: KubeObject & { readonly code?: number; readonly message?: string };
}

const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;

interface SendOptions {
  readonly body?: object | undefined;
  readonly contentType?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** JSON over one keep-alive agent. `connect` overrides the address dialled, not the name verified. */
export class ApiClient {
  readonly #access: ApiAccess;
  readonly #agent: http.Agent;
  readonly #base: http.RequestOptions;

  constructor(access: ApiAccess, connect?: { readonly host: string; readonly port: number }) {
    this.#access = access;
    const { server, tls } = access;
    const secure = server.protocol === 'https:';
    const name = server.hostname.replace(/^\[|\]$/g, '');
    const port = Number(server.port || (secure ? 443 : 80));
    this.#agent = secure
      ? new https.Agent({
          keepAlive: true,
          ...tls,
          servername: isIP(name) === 0 ? name : '',
          checkServerIdentity: (_, cert) => checkServerIdentity(name, cert),
        })
      : new http.Agent({ keepAlive: true });
    this.#base = {
      host: connect?.host ?? name,
      port: connect?.port ?? port,
      agent: this.#agent,
      protocol: server.protocol,
    };
  }

  async get<T>(path: string): Promise<T> {
    return (await this.request('GET', path)) as T;
  }

  async create<T>(path: string, body: object): Promise<T> {
    return (await this.request('POST', path, body)) as T;
  }

  async patch<T>(path: string, body: object, type: 'merge' | 'strategic' = 'merge'): Promise<T> {
    return (await this.request('PATCH', path, body, PATCH_TYPES[type])) as T;
  }

  /** Sends one request; an answer of 400 or more is an {@link ApiError}. */
  async request(
    method: string,
    path: string,
    body?: object,
    contentType = 'application/json',
  ): Promise<unknown> {
    const response = await this.#send(method, path, { body, contentType, timeoutMs: 30_000 });
    const text = await readAll(response);
    const value: unknown = text === '' ? {} : JSON.parse(text);
    const status = response.statusCode ?? 500;
    if (status >= 400) {
      const message = (value as { message?: string }).message ?? `status ${status}`;
      throw new ApiError(status, `${method} ${path}: ${message}`);
    }
    return value;
  }

  /** Lists and watches until the signal aborts; reconnects by itself. */
  async watch<T extends KubeObject>(
    path: string,
    handlers: WatchHandlers<T>,
    signal: AbortSignal,
  ): Promise<void> {
    let version = '';
    let delayMs = 50;
    while (!signal.aborted) {
      try {
        if (version === '') {
          const list = await this.get<{ metadata: { resourceVersion: string }; items?: T[] }>(path);
          handlers.onSnapshot(list.items ?? []);
          version = list.metadata.resourceVersion;
        }
        version = await this.#stream(path, version, handlers, signal);
        delayMs = 50;
      } catch (err) {
        if (err instanceof ApiError && err.status === 410) version = '';
        delayMs = Math.min(delayMs * 2, 2000);
      }
      await sleep(systemClock, delayMs, signal).catch(() => undefined);
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  async #stream<T extends KubeObject>(
    path: string,
    from: string,
    handlers: WatchHandlers<T>,
    signal: AbortSignal,
  ): Promise<string> {
    const query = `watch=true&allowWatchBookmarks=true&resourceVersion=${from}`;
    const url = `${path}${path.includes('?') ? '&' : '?'}${query}`;
    const response = await this.#send('GET', url, { signal });
    if (response.statusCode !== 200) {
      response.resume();
      throw new ApiError(response.statusCode ?? 500, `watch ${path} failed`);
    }
    let version = from;
    let rest = '';
    response.setEncoding('utf8');
    for await (const chunk of response as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.trim() === '') continue;
        const { type, object } = JSON.parse(line) as WatchEvent;
        if (type === 'ERROR') throw new ApiError(object.code ?? 410, object.message ?? 'watch');
        version = object.metadata.resourceVersion ?? version;
        if (type === 'DELETED') handlers.onDelete(object as unknown as T);
        else if (type !== 'BOOKMARK') handlers.onApply(object as unknown as T);
      }
    }
    return version;
  }

  #send(
    method: string,
    path: string,
    { body, contentType, timeoutMs = 0, signal }: SendOptions,
  ): Promise<http.IncomingMessage> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers: Record<string, string> = { accept: 'application/json' };
    if (this.#access.token !== undefined) headers['authorization'] = `Bearer ${this.#access.token}`;
    if (text !== undefined) {
      headers['content-type'] = contentType ?? 'application/json';
      headers['content-length'] = String(Buffer.byteLength(text));
    }
    const { pathname } = this.#access.server;
    const prefix = pathname === '/' ? '' : pathname;
    return new Promise((resolve, reject) => {
      const send = this.#base.protocol === 'https:' ? https.request : http.request;
      const request = send({
        ...this.#base,
        method,
        path: prefix + path,
        headers,
        ...(signal === undefined ? {} : { signal }),
      });
      if (timeoutMs > 0) request.setTimeout(timeoutMs, () => request.destroy(new Error('timeout')));
      request.on('response', resolve);
      request.on('error', reject);
      request.end(text);
    });
  }
}

async function readAll(response: http.IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  for await (const chunk of response as AsyncIterable<string>) text += chunk;
  return text;
}
