// Certificates a data thread can use, by identity, with the TLS contexts built from them. A renewal replaces the
// contexts for new connections; established ones keep theirs. Asks the control thread for what it lacks.
import { MeshError } from '../../common/errors.ts';
import type { Revocations } from '../../common/hbone/revocation-lists.ts';
import type { WorkloadCertificate } from '../../common/identity/secret-manager.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import { TlsContext, type TlsContextOptions } from '../../engine/tls/tls-context.ts';

/** An identity's contexts. */
export interface IdentityContexts {
  readonly identity: string;
  readonly server: TlsContext;
  readonly client: TlsContext;
  /** Of the leaf's identity; peers of another trust domain are refused. */
  readonly trustDomain: string;
  readonly notAfterMs: number;
  /** What they were built from: to build them again when the revocation lists change. */
  readonly certificate: WorkloadCertificate;
}

interface Waiter {
  readonly resolve: (contexts: IdentityContexts) => void;
  readonly reject: (err: Error) => void;
}

const WAIT_MS = 10_000;
/** A replaced context must outlive handshakes in progress. */
const REPLACED_CONTEXT_MS = 30_000;

/** The thread's certificates. */
export class CertificateStore {
  readonly #reactor: Reactor;
  readonly #ask: (identity: string) => void;
  readonly #options: Pick<TlsContextOptions, 'groups'>;
  readonly #contexts = new Map<string, IdentityContexts>();
  readonly #waiting = new Map<string, Waiter[]>();
  #revocations: Revocations = { kind: 'off' };

  /** `ask` requests an identity's certificate; `put` or `fail` answers. */
  constructor(
    reactor: Reactor,
    ask: (identity: string) => void,
    options: Pick<TlsContextOptions, 'groups'> = {},
  ) {
    this.#reactor = reactor;
    this.#ask = ask;
    this.#options = options;
  }

  /** The contexts if they are here and valid. */
  current(identity: string): IdentityContexts | undefined {
    if (this.#revocations.kind === 'unreadable') return undefined;
    const contexts = this.#contexts.get(identity);
    return contexts !== undefined && contexts.notAfterMs > Date.now() ? contexts : undefined;
  }

  /** The contexts, asking for them when needed. Rejects with `certificate_unavailable`. */
  get(identity: string): Promise<IdentityContexts> {
    const current = this.current(identity);
    if (current !== undefined) return Promise.resolve(current);
    if (this.#revocations.kind === 'unreadable') {
      return Promise.reject(unavailable(identity, this.#revocations.problem));
    }
    return new Promise((resolve, reject) => {
      const timer = this.#reactor.after(WAIT_MS, () => {
        this.#waiting.set(
          identity,
          (this.#waiting.get(identity) ?? []).filter((one) => one !== waiter),
        );
        reject(unavailable(identity, 'timed out'));
      });
      const waiter: Waiter = {
        resolve: (contexts) => {
          timer.cancel();
          resolve(contexts);
        },
        reject: (err) => {
          timer.cancel();
          reject(err);
        },
      };
      const waiting = this.#waiting.get(identity) ?? [];
      waiting.push(waiter);
      this.#waiting.set(identity, waiting);
      if (waiting.length === 1) this.#ask(identity);
    });
  }

  /** A new or renewed certificate; true when it replaces one. Throws when OpenSSL refuses it. */
  put(certificate: WorkloadCertificate): boolean {
    const { identity, serial } = certificate;
    const old = this.#contexts.get(identity);
    // One that was asked for while it was on its way comes twice.
    if (old?.certificate.serial !== serial) this.#build(certificate);
    const contexts = this.current(identity);
    for (const { resolve, reject } of this.#take(identity)) {
      if (contexts !== undefined) resolve(contexts);
      else reject(unavailable(identity, 'it has expired, or revocation lists cannot be read'));
    }
    return old !== undefined && old.certificate.serial !== serial;
  }

  /** New revocation lists count for new handshakes; the owner of established connections looks at these. */
  setRevocations(revocations: Revocations): void {
    this.#revocations = revocations;
    for (const { certificate } of [...this.#contexts.values()]) this.#build(certificate);
  }

  #build(certificate: WorkloadCertificate): void {
    const { identity, notAfterMs } = certificate;
    const { kind } = this.#revocations;
    const lists = kind === 'lists' ? { crlPem: this.#revocations.pem } : {};
    const options = { ...this.#options, ...lists };
    const server = TlsContext.server(certificate, options);
    const client = TlsContext.client(certificate, options);
    const trustDomain = /^spiffe:\/\/([^/]*)\//.exec(identity)?.[1] ?? '';
    this.#retire(this.#contexts.get(identity));
    this.#contexts.set(identity, {
      identity,
      server,
      client,
      trustDomain,
      notAfterMs,
      certificate,
    });
  }

  /** The control thread could not get it. */
  fail(identity: string, error: string): void {
    for (const { reject } of this.#take(identity)) reject(unavailable(identity, error));
  }

  /** No local workload has this identity any more. */
  forget(identity: string): void {
    this.#retire(this.#contexts.get(identity));
    this.#contexts.delete(identity);
  }

  #take(identity: string): readonly Waiter[] {
    const waiting = this.#waiting.get(identity) ?? [];
    this.#waiting.delete(identity);
    return waiting;
  }

  #retire(contexts: IdentityContexts | undefined): void {
    if (contexts === undefined) return;
    this.#reactor.after(REPLACED_CONTEXT_MS, () => {
      contexts.server.close();
      contexts.client.close();
    });
  }
}

function unavailable(identity: string, reason: string): MeshError {
  return new MeshError('certificate_unavailable', `no certificate for ${identity}: ${reason}`);
}
