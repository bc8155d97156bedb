// The accepting side of HBONE: TLS and HTTP/2 on accepted TCP connections; each CONNECT becomes a TunnelRequest.
// What a request means (destination, policy) is decided by the proxy.
import { NO_ERROR, REFUSED_STREAM } from '../../engine/http2/error-codes.ts';
import { serveHttp2 } from '../../engine/http2/http2-session.ts';
import type {
  HeaderList,
  Http2Session,
  Http2SessionOptions,
  Http2Stream,
  Http2StreamEvents,
} from '../../engine/http2/types.ts';
import { closeWatcher, type CloseReason, type Duplex } from '../../engine/reactor/duplex.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import type { SocketAddress } from '../../engine/reactor/socket-address.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import { startTls } from '../../engine/tls/tls-connection.ts';
import type { TlsContext } from '../../engine/tls/tls-context.ts';
import type { TlsConnection, VerifyPeer } from '../../engine/tls/types.ts';
import { firstIdentity } from './peer-identity.ts';
import { SERVER_SESSION } from './settings.ts';
import { REVOKED_DETAIL } from './rejection.ts';
import type { SharedCount, TunnelRequest } from './types.ts';

/** A handshake in progress holds some 50 KB. */
const MAX_HANDSHAKES = 1000;
const STATUS_BAD_REQUEST = 400;
/** Ends of a session that the owner is told of; a peer that closes or goes away is none. */
const REPORTED: ReadonlySet<CloseReason['code']> = new Set(['tls', 'protocol', 'limit', 'timeout']);
const REFUSAL_GRACE_MS = 1000;

/** How tunnels are accepted. */
export interface HboneServerOptions {
  /** Context of the listener's identity now; undefined (no certificate yet) refuses the connection. */
  readonly context: () => TlsContext | undefined;
  /** Checks the client's URI SANs after its chain; see `verifyTrustDomain`. */
  readonly verifyPeer?: VerifyPeer;
  readonly onRequest: (request: TunnelRequest) => void;
  /** A connection ended before TLS and HTTP/2 were up, or because the peer broke the protocol. */
  readonly onRejected?: (reason: CloseReason, peer: SocketAddress) => void;
  /** Default 10 s. */
  readonly handshakeTimeoutMs?: number;
  /** More connections than this at once are refused. Default 10,000. */
  readonly maxConnections?: number;
  /** More handshakes than this at once are refused. Default 1,000. */
  readonly maxHandshakes?: number;
  /** Where other threads accept for the same owner: their handshakes count too. */
  readonly sharedHandshakes?: SharedCount | undefined;
  readonly session?: Http2SessionOptions;
}

/** A client and its identity, read once for all its tunnels. */
interface VerifiedPeer {
  readonly reactor: Reactor;
  readonly connection: TlsConnection;
  readonly identity: string | undefined;
}

/** Accepts tunnels; one for each listener. */
export class HboneServer {
  readonly #options: HboneServerOptions;
  /** With the connection below, for revocation. */
  readonly #sessions = new Map<Http2Session, TlsConnection>();
  /** Who closes refuses these: then the client may ask another. */
  readonly #unanswered = new Set<ServerTunnelRequest>();
  #handshakes = 0;
  /** Since the start, finished or not. */
  handshakesTotal = 0;
  #isDraining = false;

  constructor(options: HboneServerOptions) {
    this.#options = options;
  }

  /** Connections in service. */
  get connections(): number {
    return this.#sessions.size;
  }

  /** Handshakes in progress. */
  get handshakes(): number {
    return this.#handshakes;
  }

  /** A connection is in service or in its handshake. */
  get isActive(): boolean {
    return this.#sessions.size + this.#handshakes > 0;
  }

  /** Takes over an accepted connection. */
  accept(stream: TcpStream): void {
    const peer = stream.peer;
    const context = this.#options.context();
    const refusal = this.#refusal(context);
    if (context === undefined || refusal !== undefined) {
      stream.reset();
      this.#options.onRejected?.(refusal ?? { code: 'tls', detail: 'no certificate' }, peer);
      return;
    }
    const { verifyPeer, handshakeTimeoutMs } = this.#options;
    this.#countHandshake(1);
    this.handshakesTotal++;
    startTls(stream, context, {
      ...(verifyPeer === undefined ? {} : { verifyPeer }),
      ...(handshakeTimeoutMs === undefined ? {} : { handshakeTimeoutMs }),
    }).then(
      (connection) => {
        this.#countHandshake(-1);
        if (!this.#isRevokedSince(connection, context)) this.#serve(connection, stream);
      },
      (err: unknown) => {
        this.#countHandshake(-1);
        const reason: CloseReason =
          err instanceof StreamError ? err.reason : { code: 'io', detail: String(err) };
        this.#options.onRejected?.(reason, peer);
      },
    );
  }

  /** The lists may have changed while the handshake ran by the context it began with. */
  #isRevokedSince(connection: TlsConnection, context: TlsContext): boolean {
    const current = this.#options.context();
    if (current === undefined || current === context || !connection.isRevokedBy(current))
      return false;
    connection.reset();
    const reason: CloseReason = { code: 'revoked', detail: REVOKED_DETAIL };
    this.#options.onRejected?.(reason, connection.remote);
    return true;
  }

  #refusal(context: TlsContext | undefined): CloseReason | undefined {
    if (context === undefined) return { code: 'tls', detail: 'no certificate' };
    const max = this.#options.maxConnections ?? 10_000;
    if (this.#sessions.size + this.#handshakes >= max) {
      return { code: 'limit', detail: 'too many connections' };
    }
    if (this.#hasTooManyHandshakes()) {
      return { code: 'limit', detail: 'too many handshakes at once' };
    }
    return undefined;
  }

  #hasTooManyHandshakes(): boolean {
    const max = this.#options.maxHandshakes ?? MAX_HANDSHAKES;
    const shared = this.#options.sharedHandshakes;
    if (shared === undefined) return this.#handshakes >= max;
    // Told before it is compared: two threads that take the last place at once refuse both, never neither.
    shared.set(this.#handshakes + 1);
    if (this.#handshakes + shared.others < max) return false;
    shared.set(this.#handshakes);
    return true;
  }

  #countHandshake(change: 1 | -1): void {
    this.#handshakes += change;
    this.#options.sharedHandshakes?.set(this.#handshakes);
  }

  #serve(connection: TlsConnection, stream: TcpStream): void {
    const identity = firstIdentity(connection.peer.uriSans);
    const peer = { reactor: stream.reactor, connection, identity };
    const session = serveHttp2(
      stream.reactor,
      connection,
      this.#options.session ?? SERVER_SESSION,
      {
        onStream: (tunnel, headers) => this.#request(peer, tunnel, headers),
        onRequestRejected: (reason) => this.#options.onRejected?.(reason, connection.remote),
        onGoaway: () => undefined,
        onClose: (reason) => {
          this.#sessions.delete(session);
          if (REPORTED.has(reason.code)) this.#options.onRejected?.(reason, connection.remote);
        },
      },
    );
    this.#sessions.set(session, connection);
    if (this.#isDraining) session.drain();
  }

  #request(
    peer: VerifiedPeer,
    stream: Http2Stream,
    headers: HeaderList,
  ): Http2StreamEvents | undefined {
    const method = headers.find(([name]) => name === ':method')?.[1];
    const authority = headers.find(([name]) => name === ':authority')?.[1];
    if (method !== 'CONNECT' || authority === undefined) {
      refuse(peer.reactor, stream, STATUS_BAD_REQUEST, []);
      const detail = `request is not CONNECT: ${method ?? 'no method'}`;
      this.#options.onRejected?.({ code: 'protocol', detail }, peer.connection.remote);
      return undefined;
    }
    const request = new ServerTunnelRequest(peer, stream, {
      authority,
      headers,
      unanswered: this.#unanswered,
    });
    this.#options.onRequest(request);
    return undefined;
  }

  /** Graceful: no new tunnels on existing connections. The owner has stopped accepting. */
  drain(): void {
    this.#isDraining = true;
    for (const session of this.#sessions.keys()) session.drain();
  }

  /** Ends connections whose peer's certificate the lists of `context` revoke; tells how many. */
  closeRevoked(context: TlsContext): number {
    const revoked = [...this.#sessions].filter(([, connection]) => connection.isRevokedBy(context));
    for (const [session] of revoked) session.close(REVOKED_DETAIL, 'revoked');
    return revoked.length;
  }

  /** Ends all connections now; tunnels are reset. */
  close(detail: string): void {
    this.#isDraining = true;
    for (const request of this.#unanswered) request.refuseUnprocessed();
    for (const session of [...this.#sessions.keys()]) session.close(detail);
  }
}

function refuse(reactor: Reactor, stream: Http2Stream, status: number, headers: HeaderList): void {
  if (stream.isClosed) return;
  stream.respond([[':status', String(status)], ...headers], true);
  // What the client still sends is dropped; one that does not end its side is reset. Not at once: a reset
  // overtakes the answer.
  const timer = reactor.after(REFUSAL_GRACE_MS, () => stream.resetWith(NO_ERROR));
  stream.handler = closeWatcher(() => timer.cancel());
  stream.resume();
}

interface RequestParts {
  readonly authority: string;
  readonly headers: HeaderList;
  /** All that have not been answered yet. */
  readonly unanswered: Set<ServerTunnelRequest>;
}

class ServerTunnelRequest implements TunnelRequest {
  readonly authority: string;
  readonly headers: HeaderList;
  readonly peerIdentity: string | undefined;
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly localAddress: string;
  readonly localPort: number;
  onAbort: (() => void) | undefined;
  readonly #reactor: Reactor;
  readonly #stream: Http2Stream;
  readonly #unanswered: Set<ServerTunnelRequest>;

  constructor(
    { reactor, connection, identity }: VerifiedPeer,
    stream: Http2Stream,
    { authority, headers, unanswered }: RequestParts,
  ) {
    this.#unanswered = unanswered;
    unanswered.add(this);
    this.#reactor = reactor;
    this.authority = authority;
    this.headers = headers;
    this.peerIdentity = identity;
    this.peerAddress = connection.remote.address;
    this.peerPort = connection.remote.port;
    this.localAddress = connection.local.address;
    this.localPort = connection.local.port;
    this.#stream = stream;
    stream.handler = closeWatcher(() => {
      if (this.#unanswered.delete(this)) this.onAbort?.();
    });
  }

  accept(headers: HeaderList): Duplex {
    this.#unanswered.delete(this);
    this.#stream.respond([[':status', '200'], ...headers], false);
    return this.#stream;
  }

  refuse(status: number, headers: HeaderList = []): void {
    if (this.#unanswered.delete(this)) refuse(this.#reactor, this.#stream, status, headers);
  }

  /** Nothing of it was done (RFC 9113 section 8.7): what came early with it has not gone on. */
  refuseUnprocessed(): void {
    this.#stream.resetWith(REFUSED_STREAM);
  }
}
