// Inbound tunnels of a pod: TLS with the pod's own certificate, the client of our trust domain, HTTP/2, and a
// TunnelRequest for each CONNECT. Anything else is answered or dropped with one reported reason.
import type { TunnelRequest } from '../../common/hbone/types.ts';
import { serveHttp2 } from '../../engine/http2/http2-session.ts';
import type { HeaderList, Http2Session, Http2Stream } from '../../engine/http2/types.ts';
import type { CloseReason } from '../../engine/reactor/duplex.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import { startTls } from '../../engine/tls/tls-connection.ts';
import type { TlsConnection } from '../../engine/tls/types.ts';
import type { IdentityContexts } from '../identity/certificate-store.ts';
import { parseSpiffeId } from '../../common/identity/spiffe.ts';
import { sessionOptions } from './http2-options.ts';
import type { ProxyContext } from './proxy-context.ts';

/** Addresses of the TCP connection below a tunnel. */
export interface TunnelAddresses {
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly localAddress: string;
  readonly localPort: number;
}

/** What the owner of a {@link TunnelServer} provides. */
export interface TunnelServerOptions {
  /** The pod's TLS contexts now. */
  contexts(): Promise<IdentityContexts>;
  onRequest(request: TunnelRequest): void;
  /** A connection that never became a session, or broke the protocol. */
  onFailure(addresses: TunnelAddresses, err: unknown): void;
}

/** Reasons of a session's end that are worth a line; a peer that just closes is not. */
const REPORTED: ReadonlySet<CloseReason['code']> = new Set(['tls', 'protocol', 'limit', 'timeout']);

/** Serves the accepted connections of 15008. */
export class TunnelServer {
  readonly #context: ProxyContext;
  readonly #options: TunnelServerOptions;
  readonly #sessions = new Set<Http2Session>();
  readonly #handshakes = new Set<TcpStream>();
  #isDraining = false;

  constructor(context: ProxyContext, options: TunnelServerOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Takes over an accepted connection. */
  accept(stream: TcpStream): void {
    const { peer, local } = stream;
    const addresses: TunnelAddresses = {
      peerAddress: peer.address,
      peerPort: peer.port,
      localAddress: local.address,
      localPort: local.port,
    };
    this.#handshakes.add(stream);
    this.#handshake(stream)
      .then((tls) => this.#serve(tls, addresses))
      .catch((err: unknown) => {
        stream.reset();
        this.#options.onFailure(addresses, err);
      })
      .finally(() => this.#handshakes.delete(stream));
  }

  /** GOAWAY on every session; streams that run go on. */
  drain(): void {
    this.#isDraining = true;
    for (const session of this.#sessions) session.drain();
  }

  /** Ends sessions, streams and handshakes now. */
  close(detail: string): void {
    this.#isDraining = true;
    for (const session of [...this.#sessions]) session.close(detail);
    for (const stream of [...this.#handshakes]) stream.reset();
  }

  async #handshake(stream: TcpStream): Promise<TlsConnection> {
    const contexts = await this.#options.contexts();
    return startTls(stream, contexts.server, {
      verifyPeer: (uriSans) => verifyTrustDomain(uriSans, contexts.trustDomain),
    });
  }

  #serve(tls: TlsConnection, addresses: TunnelAddresses): void {
    const peerIdentity = tls.peer.uriSans.find((san) => parseSpiffeId(san) !== undefined);
    const { reactor, config } = this.#context;
    const session = serveHttp2(reactor, tls, sessionOptions(config, true), {
      onStream: (stream, headers) => {
        this.#onStream(stream, headers, addresses, peerIdentity);
        return undefined;
      },
      onGoaway: () => undefined,
      onClose: (reason) => {
        this.#sessions.delete(session);
        if (!REPORTED.has(reason.code)) return;
        this.#options.onFailure(addresses, new StreamError(reason.code, reason.detail));
      },
    });
    this.#sessions.add(session);
    if (this.#isDraining) session.drain();
  }

  #onStream(
    stream: Http2Stream,
    headers: HeaderList,
    addresses: TunnelAddresses,
    peerIdentity: string | undefined,
  ): void {
    const request = new StreamTunnelRequest(stream, headers, addresses, peerIdentity);
    if (pseudo(headers, ':method') !== 'CONNECT') {
      request.refuse(400);
      this.#options.onFailure(addresses, new StreamError('protocol', 'request is not CONNECT'));
      return;
    }
    this.#options.onRequest(request);
  }
}

class StreamTunnelRequest implements TunnelRequest {
  readonly authority: string;
  readonly headers: HeaderList;
  readonly peerIdentity: string | undefined;
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly localAddress: string;
  readonly localPort: number;
  onAbort: (() => void) | undefined;
  readonly #stream: Http2Stream;

  constructor(
    stream: Http2Stream,
    headers: HeaderList,
    addresses: TunnelAddresses,
    peerIdentity: string | undefined,
  ) {
    this.#stream = stream;
    this.headers = headers;
    this.authority = pseudo(headers, ':authority') ?? '';
    this.peerIdentity = peerIdentity;
    this.peerAddress = addresses.peerAddress;
    this.peerPort = addresses.peerPort;
    this.localAddress = addresses.localAddress;
    this.localPort = addresses.localPort;
    stream.handler = {
      onData: () => undefined,
      onEnd: () => undefined,
      onDrain: () => undefined,
      onClose: () => this.onAbort?.(),
    };
  }

  accept(headers: HeaderList): Http2Stream {
    this.#stream.respond([[':status', '200'], ...headers], false);
    return this.#stream;
  }

  refuse(status: number, headers: HeaderList = []): void {
    this.#stream.respond([[':status', String(status)], ...headers], true);
  }
}

function pseudo(headers: HeaderList, name: string): string | undefined {
  return headers.find(([key]) => key === name)?.[1];
}

function verifyTrustDomain(uriSans: readonly string[], trustDomain: string): string | undefined {
  if (uriSans.some((san) => parseSpiffeId(san)?.trustDomain === trustDomain)) return undefined;
  return `client identity ${uriSans.join(', ') || 'missing'} is not of trust domain ${trustDomain}`;
}
