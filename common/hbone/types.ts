// HBONE (HTTP/2 CONNECT over mutual TLS 1.3) as the proxies see it. Implemented on the engine in this folder.
import type { Duplex } from '../../engine/reactor/duplex.ts';
import type { HeaderList } from '../../engine/http2/types.ts';

/** A number that several threads count together. */
export interface SharedCount {
  /** Tells the others this thread's part. */
  set(count: number): void;
  /** What the other threads have. */
  readonly others: number;
}

/** A tunnel request that arrived. Exactly one of `accept` and `refuse` must be called. */
export interface TunnelRequest {
  /** `:authority` as sent: `ip:port` or `hostname:port`. */
  readonly authority: string;
  readonly headers: HeaderList;
  /** First SPIFFE URI SAN of the verified client certificate, or undefined. */
  readonly peerIdentity: string | undefined;
  /** Peer and local address of the tunnel's TCP connection. */
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly localAddress: string;
  readonly localPort: number;
  /** 200; the returned stream carries the application's bytes. */
  accept(headers: HeaderList): Duplex;
  /** Answers an error status and ends the stream. */
  refuse(status: number, headers?: HeaderList): void;
  /** Called if the peer goes away before accept or refuse. */
  onAbort: (() => void) | undefined;
}

/** Bytes of the application that may go out with the request, before its answer. */
export interface EarlyBytes {
  /** All there are, for one request; the same again for another. */
  take(): Uint8Array;
}

/** Key and target of an outgoing tunnel. */
export interface TunnelTarget {
  /** Where to connect: `ip`, port of the tunnel listener (15008). */
  readonly address: string;
  readonly port: number;
  readonly authority: string;
  readonly headers: HeaderList;
  /** Identity whose certificate we show. */
  readonly sourceIdentity: string;
  /** SPIFFE ids of which the server must have one; empty never matches. */
  readonly expectedIdentities: readonly string[];
  /** Asked for when a request goes out. */
  readonly early?: EarlyBytes;
  /** Double HBONE: the tunnel leads to another network's gateway, and the wanted one is opened within it. */
  readonly inner?: {
    readonly headers: HeaderList;
    readonly expectedIdentities: readonly string[];
  };
}

/** Why a tunnel could not be opened. `status` is set when the peer answered something other than 200. */
export interface TunnelFailure {
  readonly code:
    'connect' | 'timeout' | 'tls' | 'identity' | 'h2' | 'status' | 'certificate' | 'limit';
  readonly detail: string;
  readonly status?: number;
  /** Early bytes went out, and nothing says that the application has not had them: the request must not be repeated. */
  readonly mayBeDelivered?: boolean;
}

/** An open tunnel: the stream, the response headers (baggage) and the identity the server proved. */
export interface Tunnel {
  readonly stream: Duplex;
  readonly responseHeaders: HeaderList;
  readonly serverIdentity: string | undefined;
  /** How many early bytes went with the request; default none. */
  readonly earlyBytes?: number;
  /** To be called when the stream has ended, where the tunnel has a connection of its own. */
  readonly release?: () => void;
}
