// A real API server on a free port with a directory of its own, a small HTTPS client, and a client that plays the kubelet
// of one node: it runs the pods assigned to it by saying so.
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../../../common/clock.ts';
import { startApiServer } from '../../../../local/apiserver/app.ts';
import type { ApiServer } from '../../../../local/apiserver/app.ts';
import type { Dict, KubeObject } from '../../../../local/apiserver/objects.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const DEADLINE_MS = 10_000;

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- tests read answers freely
}

export interface CallOptions {
  readonly type?: string;
  readonly accept?: string;
  readonly token?: string;
}

export interface WatchEvent {
  readonly type: string;
  readonly object: KubeObject;
}

/** A running server and its clients. */
export class Cluster {
  readonly dir: string;
  readonly kubeletTokenFile: string;
  #server: ApiServer | undefined;
  #token = '';
  #watches = new Set<IncomingMessage>();
  #kubelets: (() => void)[] = [];

  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), 'ambient-api-'));
    this.kubeletTokenFile = join(this.dir, 'kubelet-token');
  }

  get url(): string {
    return this.#server?.url ?? '';
  }

  get kubeconfig(): string {
    return join(this.dir, 'kubeconfig');
  }

  async start(): Promise<void> {
    this.#server = await startApiServer(
      {
        dataDir: join(this.dir, 'data'),
        listen: [{ host: '127.0.0.1', port: 0 }],
        listenFds: [],
        advertise: undefined,
        serviceCidr: { base: 0x0a60_0000, size: 2 ** 16 },
        kubeconfigOut: this.kubeconfig,
        kubeletTokenFile: this.kubeletTokenFile,
      },
      systemClock,
      quietLogger(),
    );
    const config = JSON.parse(this.#server.kubeconfig) as { users: [{ user: { token: string } }] };
    this.#token = config.users[0].user.token;
  }

  async stop(): Promise<void> {
    for (const stop of this.#kubelets.splice(0)) stop();
    for (const watch of this.#watches) watch.destroy();
    this.#watches.clear();
    await this.#server?.close();
    this.#server = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.dir, { recursive: true });
  }

  /** One request; the body is sent as JSON unless it is text. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    options: CallOptions = {},
  ): Promise<Answer> {
    const answer = await this.#send(method, path, body, options);
    let text = '';
    answer.setEncoding('utf8');
    for await (const part of answer as AsyncIterable<string>) text += part;
    const isJson = (answer.headers['content-type'] ?? '').startsWith('application/json');
    const parsed = isJson ? (JSON.parse(text) as unknown) : text;
    return { status: answer.statusCode ?? 0, headers: answer.headers, body: parsed };
  }

  /** Calls and fails unless the answer is a success. */
  async must(
    method: string,
    path: string,
    body?: unknown,
    options: CallOptions = {},
  ): Promise<Answer['body']> {
    const answer = await this.call(method, path, body, options);
    if (answer.status < 300) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** Follows a watch until it is stopped. */
  async watch(path: string, onEvent: (event: WatchEvent) => void): Promise<() => void> {
    const answer = await this.#send('GET', path, undefined, {});
    if (answer.statusCode !== 200) throw new Error(`watch ${path}: ${String(answer.statusCode)}`);
    this.#watches.add(answer);
    let rest = '';
    answer.setEncoding('utf8');
    answer.on('data', (part: string) => {
      const lines = (rest + part).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onEvent(JSON.parse(line) as WatchEvent);
    });
    answer.on('error', () => undefined);
    return () => answer.destroy();
  }

  /** Registers a node and runs what is assigned to it. */
  async addNode(name: string, labels: Record<string, string> = {}): Promise<void> {
    await this.must('POST', '/api/v1/nodes', { metadata: { name, labels } });
    await this.must(
      'PATCH',
      `/api/v1/nodes/${name}/status`,
      {
        status: {
          addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
          conditions: [{ type: 'Ready', status: 'True' }],
        },
      },
      { type: 'application/merge-patch+json' },
    );
    let next = 1;
    const onPod = async ({ type, object }: WatchEvent): Promise<void> => {
      const { namespace = '', name: pod, deletionTimestamp, uid } = object.metadata;
      if (type === 'DELETED') return;
      const path = `/api/v1/namespaces/${namespace}/pods/${pod}`;
      if (deletionTimestamp !== undefined) {
        await this.call('DELETE', path, { gracePeriodSeconds: 0, preconditions: { uid } });
        return;
      }
      if ((object['status'] as Dict)['phase'] !== 'Pending') return;
      next += 1;
      const now = new Date().toISOString();
      const status = {
        phase: 'Running',
        podIP: `10.244.${String(name.length)}.${String(next)}`,
        conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: now }],
      };
      const options = { type: 'application/merge-patch+json' };
      await this.call('PATCH', `${path}/status`, { status }, options);
    };
    const query = `watch=true&fieldSelector=spec.nodeName%3D${name}`;
    const stop = await this.watch(`/api/v1/pods?${query}`, (event) => {
      // The cluster may close while a pod is being started.
      onPod(event).catch(() => undefined);
    });
    this.#kubelets.push(stop);
  }

  #send(
    method: string,
    path: string,
    body: unknown,
    options: CallOptions,
  ): Promise<IncomingMessage> {
    const headers: Record<string, string> = {
      authorization: `Bearer ${options.token ?? this.#token}`,
      accept: options.accept ?? 'application/json',
      'user-agent': 'test/1',
    };
    const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body);
    if (text !== undefined) {
      headers['content-type'] = options.type ?? 'application/json';
      // node:http frames the body of a DELETE only when told its length.
      headers['content-length'] = String(Buffer.byteLength(text));
    }
    return new Promise((resolve, reject) => {
      const outgoing = request(
        `${this.url}${path}`,
        { method, headers, rejectUnauthorized: false, agent: false },
        resolve,
      );
      outgoing.on('error', reject);
      outgoing.end(text);
    });
  }
}

/** Polls until `probe` gives a value; fails with the last thing seen. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false>,
): Promise<T> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`did not happen in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A Deployment of one container. */
export function deployment(name: string, replicas: number, image = 'app:1'): Dict {
  const labels = { app: name };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          containers: [{ name: 'app', image, ports: [{ name: 'http', containerPort: 8080 }] }],
        },
      },
    },
  };
}
