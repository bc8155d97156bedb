// TLS as its users see it: contexts are built once per certificate, connections belong to one reactor thread.
import type { Duplex } from '../reactor/duplex.ts';
import type { SocketAddress } from '../reactor/socket-address.ts';

/** PEM material of one identity. The private key never leaves memory and is never logged. */
export interface TlsMaterial {
  /** Leaf first, then intermediates, without the root. */
  readonly certChainPem: string;
  readonly privateKeyPem: string;
  /** One or more roots. */
  readonly rootsPem: string;
}

/** What the peer proved: URI SANs of its verified leaf. */
export interface TlsPeer {
  readonly uriSans: readonly string[];
  readonly alpn: string;
}

/** Accepts or refuses a verified peer. Returns undefined to accept, else the reason for the log. */
export type VerifyPeer = (uriSans: readonly string[]) => string | undefined;

/** An established TLS connection; the peer is verified before it exists. */
export interface TlsConnection extends Duplex {
  readonly peer: TlsPeer;
  /** Addresses of the TCP connection below. */
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
  /** Whether the revocation lists of that context revoke the peer's certificate. */
  isRevokedBy(context: { readonly pointer: number }): boolean;
}
