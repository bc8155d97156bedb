// Requests to the Kubernetes API over node:https: objects in and out as JSON, watches as streams of lines. Every
// call can be cancelled. Answers other than 2xx become a KubeError with the API's reason.
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type AgentOptions } from 'node:https';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import { MeshError } from '../errors.ts';
import type { KubeConnection } from './connection.ts';
import { apiVersionOf, collectionPath, objectPath } from './resource.ts';
import type { KubeObject, ResourceKind } from './resource.ts';

/** A refused or failed request. `status` is 0 when there was no answer. */
export class KubeError extends MeshError<'kube_api'> {
  readonly status: number;
  readonly reason: string;
  /** What the API said, without the request. */
  readonly answer: string;

  constructor(
    status: number,
    reason: string,
    message: string,
    options: { readonly cause?: unknown; readonly answer?: string } = {},
  ) {
    super('kube_api', message, { cause: options.cause });
    this.status = status;
    this.reason = reason;
    this.answer = options.answer ?? message;
  }
}

/** True for a {@link KubeError} with that HTTP status. */
export function isKubeStatus(err: unknown, status: number): boolean {
  return err instanceof KubeError && err.status === status;
}

/** A request; `method` is GET where it is left out. */
export interface KubeRequest {
  readonly method?: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
  /** Media types wanted; JSON without it. */
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

/** Names an object. */
export interface ObjectRef {
  readonly kind: ResourceKind;
  readonly namespace?: string;
  readonly name: string;
}

/** A page or the whole of a collection. */
export interface KubeList<T> {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly T[];
}

const REQUEST_TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 256 << 20;
const MERGE_PATCH = 'application/merge-patch+json';
// JSON is YAML; the API server asks for this type by name.
const APPLY_PATCH = 'application/apply-patch+yaml';

/** A client for one API server. */
export class KubeClient {
  readonly #connection: KubeConnection;
  readonly #agent: HttpAgent;
  readonly #isTls: boolean;
  readonly #userAgent: string;

  constructor(connection: KubeConnection, userAgent = 'ambient-mesh') {
    this.#connection = connection;
    this.#userAgent = userAgent;
    this.#isTls = connection.server.protocol === 'https:';
    const options = { keepAlive: true, keepAliveMsecs: 15_000, maxFreeSockets: 4 };
    this.#agent = this.#isTls
      ? new HttpsAgent({ ...options, ...nameChecks(connection), ...connection.tls })
      : new HttpAgent(options);
  }

  /** Namespace of the context. */
  get namespace(): string {
    return this.#connection.namespace;
  }

  /** Reads an object; undefined when there is none. */
  async get<T>(ref: ObjectRef, signal?: AbortSignal): Promise<T | undefined> {
    try {
      const path = objectPath(ref.kind, ref.namespace, ref.name);
      return await this.json<T>({
        method: 'GET',
        path,
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (err) {
      if (isKubeStatus(err, 404)) return undefined;
      throw err;
    }
  }

  /** Creates an object in its own namespace. A taken name is a 409. */
  create<T extends KubeObject>(kind: ResourceKind, object: T): Promise<T> {
    const path = collectionPath(kind, object.metadata?.namespace);
    const body = { apiVersion: apiVersionOf(kind), kind: kind.kind, ...object };
    return this.json<T>({ method: 'POST', path, body });
  }

  /** Server-side apply: makes the named fields ours, also against others. */
  apply<T extends KubeObject>(kind: ResourceKind, object: T, fieldManager: string): Promise<T> {
    const { name = '', namespace } = object.metadata ?? {};
    return this.json<T>({
      method: 'PATCH',
      path: objectPath(kind, namespace, name),
      query: { fieldManager, force: 'true' },
      body: { apiVersion: apiVersionOf(kind), kind: kind.kind, ...object },
      contentType: APPLY_PATCH,
    });
  }

  /** JSON merge patch of an object or of its `status` subresource. */
  mergePatch<T>(ref: ObjectRef, patch: unknown, subresource?: string): Promise<T> {
    return this.json<T>({
      method: 'PATCH',
      path: objectPath(ref.kind, ref.namespace, ref.name, subresource),
      body: patch,
      contentType: MERGE_PATCH,
    });
  }

  /** Deletes an object; true when it existed. */
  async delete(ref: ObjectRef): Promise<boolean> {
    try {
      await this.json({ method: 'DELETE', path: objectPath(ref.kind, ref.namespace, ref.name) });
      return true;
    } catch (err) {
      if (isKubeStatus(err, 404)) return false;
      throw err;
    }
  }

  /** Sends a request and parses the JSON answer. */
  async json<T>(request: KubeRequest): Promise<T> {
    const { message } = await this.open(request, REQUEST_TIMEOUT_MS);
    const text = await readText(message);
    const status = message.statusCode ?? 0;
    if (status < 200 || status >= 300) throw toError(request, status, text);
    return (text === '' ? {} : JSON.parse(text)) as T;
  }

  /** Opens a request and returns at the headers; the caller reads the body and checks the status. */
  async open(request: KubeRequest, timeoutMs: number): Promise<{ message: IncomingMessage }> {
    const authorization = await this.#connection.authorization();
    const path = `${prefixOf(this.#connection.server)}${request.path}${queryText(request.query)}`;
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const send = this.#isTls ? httpsRequest : httpRequest;
    return await new Promise((resolve, reject) => {
      const call: ClientRequest = send(
        {
          agent: this.#agent,
          ...this.#address(),
          path,
          method: request.method ?? 'GET',
          timeout: timeoutMs,
          ...(request.signal === undefined ? {} : { signal: request.signal }),
          headers: {
            accept: request.accept ?? 'application/json',
            'user-agent': this.#userAgent,
            ...(authorization === undefined ? {} : { authorization }),
            ...(body === undefined
              ? {}
              : {
                  'content-type': request.contentType ?? 'application/json',
                  'content-length': body.length,
                }),
          },
        },
        (message) => resolve({ message }),
      );
      call.on('timeout', () => call.destroy(new Error(`no answer for ${timeoutMs} ms`)));
      call.on('error', (err) =>
        reject(
          new KubeError(0, 'Unreachable', `${describe(request)}: ${err.message}`, {
            cause: err,
            answer: err.message,
          }),
        ),
      );
      call.end(body);
    });
  }

  #address(): { readonly hostname: string; readonly port: number | string } {
    const { server, connect } = this.#connection;
    if (connect !== undefined) return { hostname: connect.host, port: connect.port };
    return { hostname: nameOf(server), port: server.port || (this.#isTls ? 443 : 80) };
  }

  /** Closes idle connections; open requests are ended by their signals. */
  close(): void {
    this.#agent.destroy();
  }
}

/** Reads a whole answer as text, up to a limit. */
export function readText(message: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    message.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_ANSWER_BYTES) message.destroy(new Error('the answer is too large'));
      else chunks.push(chunk);
    });
    message.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    message.on('error', (err) =>
      reject(
        new KubeError(0, 'Unreachable', `the answer broke off: ${err.message}`, { cause: err }),
      ),
    );
  });
}

/** Turns an API answer other than 2xx into an error. */
export function toError(request: KubeRequest, status: number, text: string): KubeError {
  let reason = '';
  let message = text.slice(0, 300);
  try {
    const parsed = JSON.parse(text) as { reason?: string; message?: string };
    reason = parsed.reason ?? '';
    message = parsed.message ?? message;
  } catch {
    // Not an API status (a proxy between, or a kubelet's plain text): the text says what there is to say.
    if (message === '') message = 'without an explanation';
  }
  return new KubeError(status, reason, `${describe(request)}: ${status} ${message}`, {
    answer: message,
  });
}

function describe({ method = 'GET', path }: KubeRequest): string {
  return `${method} ${path}`;
}

const nameOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '');

/** Where another address is dialled, the certificate must still be that of the server's name. */
function nameChecks({ server, connect, tls }: KubeConnection): AgentOptions {
  if (connect === undefined) return {};
  const name = tls.servername ?? nameOf(server);
  return {
    servername: isIP(name) === 0 ? name : '',
    checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
  };
}

function prefixOf(server: URL): string {
  return server.pathname.replace(/\/$/, '');
}

function queryText(query: KubeRequest['query']): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) params.set(name, value);
  }
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}
