// Istio's ztunnel at the other end of a tunnel, played by node:http2 with the settings, headers and codes it has on the
// wire: a server that shows what came, and a client.
import { once } from 'node:events';
import { connect, createSecureServer } from 'node:http2';
import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  Http2SecureServer,
  IncomingHttpHeaders,
  ServerHttp2Stream,
  Settings,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { eventually } from '../support/netns-mesh.ts';

const HBONE = 15_008;
const WINDOW = 4 << 20;
const FRAME = 1 << 20;
const SERVER_SETTINGS: Settings = {
  initialWindowSize: WINDOW,
  maxFrameSize: FRAME,
  maxHeaderListSize: 65_536,
  maxConcurrentStreams: 200,
};
const CLIENT_SETTINGS: Settings = {
  enablePush: false,
  initialWindowSize: WINDOW,
  maxFrameSize: FRAME,
  maxHeaderListSize: 16_384,
};
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00';

/** Certificate, key and root. */
export interface PeerTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** A request for a tunnel, as it came. */
export interface Tunnel {
  readonly headers: IncomingHttpHeaders;
  readonly stream: ServerHttp2Stream;
}

/** An HBONE server, with what it saw of its latest peer. */
export class FarZtunnel {
  readonly #server: Http2SecureServer;
  readonly tunnels: Tunnel[] = [];
  settings: Settings = {};
  servername: unknown;
  protocol = '';
  cipher = '';
  peerNames = '';
  connectionWindow = 0;

  constructor(tls: PeerTls, onTunnel: (tunnel: Tunnel) => void) {
    this.#server = createSecureServer({ ...tls, requestCert: true, settings: SERVER_SETTINGS });
    this.#server.on('secureConnection', (socket: TLSSocket) => {
      this.servername = Reflect.get(socket, 'servername');
      this.protocol = socket.getProtocol() ?? '';
      this.cipher = socket.getCipher().name;
      this.peerNames = socket.getPeerCertificate().subjectaltname ?? '';
    });
    this.#server.on('session', (session) => {
      session.on('error', () => undefined);
      session.on('remoteSettings', (settings: Settings) => {
        this.settings = settings;
      });
    });
    this.#server.on('stream', (stream, headers) => {
      stream.on('error', () => undefined);
      this.connectionWindow = stream.session?.state.remoteWindowSize ?? 0;
      this.tunnels.push({ headers, stream });
      onTunnel({ headers, stream });
    });
  }

  /** Beside the proxy's own listener on all addresses, with which it shares the port. */
  async listen(host: string, port = HBONE): Promise<void> {
    this.#server.listen({ host, port, reusePort: true });
    await once(this.#server, 'listening');
  }

  /** Takes a connection that comes within a tunnel. */
  join(stream: Duplex): void {
    this.#server.emit('connection', stream);
  }

  /** Waits for a tunnel to this authority. */
  async tunnelTo(authority: string): Promise<Tunnel> {
    const find = (): Tunnel | undefined =>
      this.tunnels.find(({ headers }) => headers[':authority'] === authority);
    await eventually(`a tunnel to ${authority}`, () => find() !== undefined);
    const tunnel = find();
    if (tunnel === undefined) throw new Error('no tunnel');
    return tunnel;
  }

  close(): void {
    for (const { stream } of this.tunnels) stream.session?.destroy();
    this.#server.close();
  }
}

/** An HBONE client, with what it saw of the server. */
export class NearZtunnel {
  readonly #tls: PeerTls;
  #session: ClientHttp2Session | undefined;
  settings: Settings = {};
  connectionWindow = 0;

  constructor(tls: PeerTls) {
    this.#tls = tls;
  }

  async open(host: string): Promise<void> {
    const session = connect(`https://${host}:${HBONE}`, {
      ...this.#tls,
      settings: CLIENT_SETTINGS,
      checkServerIdentity: () => undefined,
    });
    session.on('error', () => undefined);
    this.#session = session;
    [this.settings] = (await once(session, 'remoteSettings')) as [Settings];
    await eventually('the window has grown', () => {
      this.connectionWindow = session.state.remoteWindowSize ?? 0;
      return this.connectionWindow > 65_535;
    });
  }

  /** A request with the headers of Istio's ztunnel; resolves with the answer's. */
  async request(
    authority: string,
    method = 'CONNECT',
    traceparent = TRACE,
  ): Promise<{ readonly headers: IncomingHttpHeaders; readonly stream: ClientHttp2Stream }> {
    if (this.#session === undefined) throw new Error('not open');
    const stream = this.#session.request(
      {
        ':method': method,
        ':authority': authority,
        ...(method === 'CONNECT' ? {} : { ':path': '/', ':scheme': 'https' }),
        baggage: 'k8s.cluster.name=east,k8s.namespace.name=default,k8s.deployment.name=server',
        forwarded: 'for="127.0.0.2:41000"',
        traceparent,
      },
      { endStream: false },
    );
    stream.on('error', () => undefined);
    const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    return { headers, stream };
  }

  close(): void {
    this.#session?.destroy();
  }
}

/** Everything that is said to the end. */
export async function textOf(
  source: Socket | ServerHttp2Stream | ClientHttp2Stream,
): Promise<string> {
  let text = '';
  source.on('data', (chunk: Buffer) => (text += chunk.toString()));
  if (!source.readableEnded) await once(source, 'end');
  return text;
}
