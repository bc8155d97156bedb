// exec, attach, port-forward and logs are the kubelet's: the request goes on to the pod's node, an upgraded
// connection byte by byte, so WebSocket and SPDY clients are served alike.
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { joinHostPort } from '../../../common/workload/ip.ts';
import { dict, dicts, field, number, text } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { StatusError, badRequest } from '../status-error.ts';
import type { Store } from '../storage/store.ts';
import type { Exchange } from './exchange.ts';
import { firstContainer } from './containers.ts';

const DEFAULT_PORT = 10_250;
const CONNECT_TIMEOUT_MS = 10_000;

// Kubernetes' API names of the streams, and the kubelet's.
const STREAM_FLAGS: Readonly<Record<string, string>> = {
  stdin: 'input',
  stdout: 'output',
  stderr: 'error',
  tty: 'tty',
};

interface Target {
  readonly host: string;
  readonly port: number;
  readonly path: string;
}

/** Passes requests on to kubelets. */
export class KubeletProxy {
  readonly #store: Store;
  readonly #token: () => string;

  /** `token` reads the kubelets' bearer token each time, for it may be written after this server starts. */
  constructor(store: Store, token: () => string) {
    this.#store = store;
    this.#token = token;
  }

  /** Streams a container's log. */
  logs(exchange: Exchange, pod: KubeObject): void {
    const { query, response } = exchange;
    const container = containerOf(pod, query.get('container'));
    const { namespace = '', name } = pod.metadata;
    const forwarded = new URLSearchParams(query);
    forwarded.delete('container');
    const target = this.#target(pod, `/containerLogs/${namespace}/${name}/${container}`, forwarded);
    const { host, port, path } = target;
    const headers = { authorization: `Bearer ${this.#token()}` };
    const upstream = httpRequest({ host, port, path, headers, agent: false }, (answer) => {
      const { statusCode = 502 } = answer;
      if (statusCode >= 400) {
        void answerFailure(exchange, answer, statusCode);
        return;
      }
      response.writeHead(statusCode, {
        'content-type': answer.headers['content-type'] ?? 'text/plain',
      });
      response.flushHeaders();
      answer.pipe(response);
    });
    upstream.setTimeout(0);
    upstream.on('error', (err) => {
      if (response.headersSent) response.destroy();
      else sendStatus(exchange, unreachable(pod, err));
    });
    response.on('close', () => upstream.destroy());
    upstream.end();
  }

  /** Hands an upgraded client connection to the pod's kubelet. */
  upgrade(
    request: IncomingMessage,
    client: Duplex,
    head: Buffer,
    to: { pod: KubeObject; subresource: string; query: URLSearchParams },
  ): void {
    const { host, port, path } = this.#streamTarget(to);
    const upstream = connect({ host, port });
    upstream.setTimeout(CONNECT_TIMEOUT_MS, () => upstream.destroy(new Error('connect timed out')));
    upstream.setNoDelay(true);
    let isConnected = false;
    upstream.on('connect', () => {
      isConnected = true;
      upstream.setTimeout(0);
      upstream.write(this.#requestHead(request, joinHostPort(host, port), path));
      if (head.length > 0) upstream.write(head);
      client.pipe(upstream);
      upstream.pipe(client);
    });
    upstream.on('error', (err) => {
      if (!isConnected) client.end(rawFailure(unreachable(to.pod, err)));
      else client.destroy();
    });
    upstream.on('close', () => client.destroy());
    client.on('error', () => upstream.destroy());
    client.on('close', () => upstream.destroy());
  }

  #streamTarget(to: { pod: KubeObject; subresource: string; query: URLSearchParams }): Target {
    const { pod, subresource, query } = to;
    const { namespace = '', name } = pod.metadata;
    if (subresource === 'portforward') {
      const forwarded = new URLSearchParams();
      for (const port of query.getAll('ports')) forwarded.append('port', port);
      return this.#target(pod, `/portForward/${namespace}/${name}`, forwarded);
    }
    const forwarded = new URLSearchParams();
    for (const word of query.getAll('command')) forwarded.append('command', word);
    for (const [ours, theirs] of Object.entries(STREAM_FLAGS)) {
      if (['true', '1'].includes(query.get(ours) ?? '')) forwarded.set(theirs, '1');
    }
    const container = containerOf(pod, query.get('container'));
    return this.#target(pod, `/${subresource}/${namespace}/${name}/${container}`, forwarded);
  }

  #target(pod: KubeObject, path: string, query: URLSearchParams): Target {
    const nodeName = text(field(pod, 'spec', 'nodeName'));
    if (nodeName === '') {
      throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`);
    }
    const status = dict(this.#store.get(BUCKETS.nodes, undefined, nodeName)?.['status']);
    const address = dicts(status['addresses']).find((item) => item['type'] === 'InternalIP');
    if (address === undefined) {
      throw new StatusError(500, 'InternalError', `node ${nodeName} has no address`);
    }
    const port = number(field(status, 'daemonEndpoints', 'kubeletEndpoint', 'Port'), DEFAULT_PORT);
    const search = query.toString();
    return {
      host: text(address['address']),
      port,
      path: search === '' ? path : `${path}?${search}`,
    };
  }

  /** The client's own upgrade request, with the kubelet's credentials instead of the client's. */
  #requestHead(request: IncomingMessage, host: string, path: string): string {
    const lines = [`${request.method ?? 'GET'} ${path} HTTP/1.1`, `Host: ${host}`];
    for (let index = 0; index + 1 < request.rawHeaders.length; index += 2) {
      const name = request.rawHeaders[index] ?? '';
      const value = request.rawHeaders[index + 1] ?? '';
      if (!['host', 'authorization'].includes(name.toLowerCase())) lines.push(`${name}: ${value}`);
    }
    lines.push(`Authorization: Bearer ${this.#token()}`);
    return `${lines.join('\r\n')}\r\n\r\n`;
  }
}

function containerOf(pod: KubeObject, asked: string | null): string {
  const spec = dict(pod['spec']);
  const known = ['containers', 'initContainers', 'ephemeralContainers'].flatMap((kind) =>
    dicts(spec[kind]).map((container) => text(container['name'])),
  );
  const container = asked === null || asked === '' ? firstContainer(pod) : asked;
  if (known.includes(container)) return container;
  throw badRequest(`container ${container} is not valid for pod ${pod.metadata.name}`);
}

function unreachable(pod: KubeObject, err: Error): StatusError {
  const node = text(field(pod, 'spec', 'nodeName'));
  return new StatusError(
    500,
    'InternalError',
    `error dialing the kubelet of ${node}: ${err.message}`,
  );
}

function sendStatus(exchange: Exchange, error: StatusError): void {
  exchange.response.writeHead(error.status, { 'content-type': 'application/json' });
  exchange.response.end(JSON.stringify(error.toStatus()));
}

async function answerFailure(
  exchange: Exchange,
  answer: IncomingMessage,
  status: number,
): Promise<void> {
  let body = '';
  answer.setEncoding('utf8');
  try {
    for await (const part of answer as AsyncIterable<string>) {
      if (body.length < 4096) body += part;
    }
  } catch {
    body ||= 'the kubelet closed the connection';
  }
  const reason = status === 404 ? 'NotFound' : status === 400 ? 'BadRequest' : 'InternalError';
  sendStatus(exchange, new StatusError(status, reason, body.trim()));
}

/** An HTTP answer for a connection that node:http has already given up for an upgrade. */
export function rawFailure(error: StatusError): string {
  const body = JSON.stringify(error.toStatus());
  const head = `HTTP/1.1 ${error.status} ${error.reason}\r\nContent-Type: application/json\r\n`;
  return `${head}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
}
