// A real waypoint process without a control plane: local files, a test root, and an HTTP/2 CONNECT client that plays
// the source's node proxy.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { ClientHttp2Session } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { systemClock } from '../../common/clock.ts';
import { CertificateAuthority, createRoot } from '../../common/identity/ca.ts';
import type { RootMaterial } from '../../common/identity/ca.ts';
import { generateKeyPair } from '../../common/identity/csr.ts';
import { freePort } from './free-port.ts';

export const VIP = '10.96.7.7';
export const SERVICE = 'demo/web.demo.svc.cluster.local';
export const CLIENT_IDENTITY = 'spiffe://cluster.local/ns/demo/sa/client';

/** A response that was read to its end. */
export interface ReadResponse {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly trailers: IncomingMessage['trailers'];
  readonly body: Buffer;
}

/** What a waypoint is started with; `l7` and `workloads` are JSON of the two local files. */
export interface WaypointSetup {
  readonly l7: object;
  readonly workloads: object;
  readonly env?: Readonly<Record<string, string>>;
}

/** PEM material for node:tls. */
export interface PeerTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A running waypoint. */
export class WaypointFixture {
  readonly child: ChildProcess;
  readonly ports: { hbone: number; stats: number; ready: number; admin: number };
  output = '';
  readonly #dir: string;
  readonly #tls: PeerTls;
  /** The root of the mesh with its key. */
  readonly root: RootMaterial;
  readonly #sessions = new Set<ClientHttp2Session>();

  private constructor(
    child: ChildProcess,
    ports: WaypointFixture['ports'],
    dir: string,
    root: RootMaterial,
  ) {
    this.child = child;
    this.ports = ports;
    this.#dir = dir;
    this.root = root;
    this.#tls = this.issue(CLIENT_IDENTITY);
    const collect = (chunk: Buffer): void => {
      this.output += chunk.toString();
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
  }

  static async start(setup: WaypointSetup): Promise<WaypointFixture> {
    const dir = mkdtempSync(join(tmpdir(), 'waypoint-'));
    const root = createRoot('test', systemClock);
    writeFileSync(join(dir, 'root.pem'), root.certPem + root.keyPem);
    writeFileSync(join(dir, 'l7.json'), JSON.stringify(setup.l7));
    writeFileSync(join(dir, 'xds.json'), JSON.stringify(setup.workloads));
    const ports = {
      hbone: await freePort(),
      stats: await freePort(),
      ready: await freePort(),
      admin: await freePort(),
    };
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', 'waypoint/main.ts'],
      {
        env: {
          ...process.env,
          XDS_ADDRESS: '',
          CA_ADDRESS: '',
          FAKE_CA: 'true',
          FAKE_CA_ROOT: join(dir, 'root.pem'),
          LOCAL_L7_PATH: join(dir, 'l7.json'),
          LOCAL_XDS_PATH: join(dir, 'xds.json'),
          GATEWAY_NAME: 'waypoint',
          POD_NAMESPACE: 'demo',
          LISTEN_ADDRESS: '127.0.0.1',
          HBONE_PORT: String(ports.hbone),
          STATS_PORT: String(ports.stats),
          READINESS_PORT: String(ports.ready),
          ADMIN_PORT: String(ports.admin),
          ...setup.env,
        },
      },
    );
    const fixture = new WaypointFixture(child, ports, dir, root);
    try {
      await fixture.#waitReady();
    } catch (err) {
      await fixture.close();
      throw err;
    }
    return fixture;
  }

  async #waitReady(): Promise<void> {
    const deadline = Date.now() + 30_000;
    while (Date.now() < deadline && this.child.exitCode === null) {
      const status = await get(this.ports.ready, '/healthz/ready').then(
        ({ status }) => status,
        () => 0,
      );
      if (status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`waypoint is not ready:\n${this.output}`);
  }

  /** A certificate of the mesh. */
  issue(identity: string): PeerTls {
    const key = generateKeyPair();
    const ca = new CertificateAuthority(this.root, systemClock);
    const der = createPublicKey(key.privateKey).export({ type: 'spki', format: 'der' });
    const chain = ca.issueWorkload(der, identity, 3600);
    return {
      ca: this.root.certPem,
      cert: chain.slice(0, -1).join('\n'),
      key: key.privateKeyPem,
    };
  }

  /** A TLS HTTP/2 connection as a node proxy opens it. */
  session(tls = this.#tls): ClientHttp2Session {
    const session = connectHttp2(`https://127.0.0.1:${this.ports.hbone}`, {
      ...tls,
      checkServerIdentity: () => undefined,
      ALPNProtocols: ['h2'],
      settings: { enablePush: false },
    });
    session.on('error', () => undefined);
    this.#sessions.add(session);
    session.on('close', () => this.#sessions.delete(session));
    return session;
  }

  /** A tunnel: resolves with the CONNECT status and the stream. */
  async tunnel(
    authority = `${VIP}:80`,
    session = this.session(),
  ): Promise<{ status: number; stream: Duplex }> {
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
    const [headers] = (await once(stream, 'response')) as [{ ':status': number }];
    return { status: headers[':status'], stream };
  }

  /** One request over a tunnel of its own. */
  async request(
    options: RequestOptions & { authority?: string } = {},
    body?: Buffer | string,
  ): Promise<ReadResponse> {
    const session = this.session();
    const { stream } = await this.tunnel(options.authority, session);
    try {
      return await requestOver(stream, options, body);
    } finally {
      session.destroy();
    }
  }

  async metrics(): Promise<string> {
    return (await get(this.ports.stats, '/metrics')).body.toString();
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, 'exit');
      this.child.kill('SIGKILL');
      await exited;
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

/** One HTTP/1.1 request over an open stream. */
export async function requestOver(
  stream: Duplex,
  options: RequestOptions,
  body?: Buffer | string,
): Promise<ReadResponse> {
  const request = httpRequest({
    host: 'web',
    ...options,
    headers: { connection: 'keep-alive', ...(options.headers as Record<string, string>) },
    createConnection: () => stream,
  });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return readResponse(response);
}

async function readResponse(response: IncomingMessage): Promise<ReadResponse> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    trailers: response.trailers,
    body: Buffer.concat(chunks),
  };
}

/** GET on loopback. */
export async function get(port: number, path: string): Promise<ReadResponse> {
  const request = httpRequest({ host: '127.0.0.1', port, path, agent: false });
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return readResponse(response);
}
