// The waypoint's own certificate and the revocation lists in force as TLS contexts of this thread. Either replaces
// the contexts for new connections; established ones keep theirs.
import type { Revocations } from '../common/hbone/revocation-lists.ts';
import type { WorkloadCertificate } from '../common/identity/secret-manager.ts';
import type { Reactor } from '../engine/reactor/reactor.ts';
import { TlsContext } from '../engine/tls/tls-context.ts';

/** A handshake in progress needs the context it began with. */
const REPLACED_CONTEXT_MS = 30_000;

interface Contexts {
  readonly server: TlsContext;
  readonly client: TlsContext;
}

/** The contexts in force. */
export class OwnCertificate {
  readonly #reactor: Reactor;
  #certificate: WorkloadCertificate | undefined;
  #revocations: Revocations = { kind: 'off' };
  #contexts: Contexts | undefined;

  constructor(reactor: Reactor) {
    this.#reactor = reactor;
  }

  /** For those who call; undefined: nobody is trusted, because there is no certificate or the lists cannot be read. */
  get server(): TlsContext | undefined {
    return this.#contexts?.server;
  }

  /** For endpoints; see {@link server}. */
  get client(): TlsContext | undefined {
    return this.#contexts?.client;
  }

  /** A new or renewed certificate. Throws when OpenSSL refuses it. */
  set(certificate: WorkloadCertificate): void {
    this.#build(certificate);
    this.#certificate = certificate;
  }

  /** Lists that were read. */
  setRevocations(revocations: Revocations): void {
    this.#revocations = revocations;
    if (this.#certificate !== undefined) this.#build(this.#certificate);
  }

  #build(certificate: WorkloadCertificate): void {
    const old = this.#contexts;
    this.#contexts = contextsOf(certificate, this.#revocations);
    if (old === undefined) return;
    this.#reactor.after(REPLACED_CONTEXT_MS, () => {
      old.server.close();
      old.client.close();
    });
  }
}

function contextsOf(
  certificate: WorkloadCertificate,
  revocations: Revocations,
): Contexts | undefined {
  if (revocations.kind === 'unreadable') return undefined;
  const options = revocations.kind === 'lists' ? { crlPem: revocations.pem } : {};
  return {
    server: TlsContext.server(certificate, options),
    client: TlsContext.client(certificate, options),
  };
}
