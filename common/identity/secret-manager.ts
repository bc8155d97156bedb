// Certificates of workloads, cached by identity: fetched once however many ask, renewed at about half life with
// jitter, retried with back-off (renewal.ts). The last good certificate stays in use until it expires.
// A request for an identity whose last fetch failed tries again at once, so a CA that is back is used at once.
import type { Clock, Timer } from '../clock.ts';
import { MeshError, errorMessage } from '../errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import { FetchQueue } from './fetch-queue.ts';
import type { FetchPriority } from './fetch-queue.ts';
import { nextBackoff, renewalDelay, retryDelay } from './renewal.ts';

/** An identity's certificate. The key stays in memory and is never logged. */
export interface WorkloadCertificate {
  readonly identity: string;
  /** Leaf and intermediates. */
  readonly certChainPem: string;
  readonly privateKeyPem: string;
  readonly rootsPem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly serial: string;
}

/** Gets a new certificate: makes a key, asks the CA. See {@link import('./ca-fetch.ts')}. */
export type FetchCertificate = (identity: string) => Promise<WorkloadCertificate>;

/** An identity's state, for the admin dump. */
export interface SecretState {
  readonly identity: string;
  readonly certificate: WorkloadCertificate | undefined;
  readonly error: string | undefined;
}

/** Options of {@link SecretManager}. */
export interface SecretManagerOptions {
  readonly fetch: FetchCertificate;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A request has failed; for metrics. */
  onFailure?(): void;
  /** Every new certificate, also renewals: the data threads build TLS contexts from it. */
  onCertificate(certificate: WorkloadCertificate): void;
  /** For jitter; default Math.random. */
  readonly random?: () => number;
}

/** So often the wall clock is looked at: it may jump, and timers do not see that. */
const LOOK_MS = 30_000;
const MAX_CONCURRENT = 8;
/** A request for a failed identity does not ask the CA more often than this. */
const MIN_RETRY_GAP_MS = 250;

interface Entry {
  readonly identity: string;
  certificate: WorkloadCertificate | undefined;
  error: string | undefined;
  /** The fetch under way, shared by all who wait. */
  pending: Promise<WorkloadCertificate> | undefined;
  timer: Timer | undefined;
  backoffMs: number;
  failedAtMs: number;
  /** What is on its way may be by the old root: to be renewed within so much time once it is here. */
  renewWithinMs: number | undefined;
  isForgotten: boolean;
}

/** Fetches and renews certificates for as long as their identity is needed. */
export class SecretManager {
  readonly #options: SecretManagerOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new FetchQueue(MAX_CONCURRENT);

  constructor(options: SecretManagerOptions) {
    this.#options = options;
  }

  /** The valid certificate of an identity, fetched when needed. Rejects with `certificate_unavailable`. */
  get(identity: string, priority: FetchPriority = 'connection'): Promise<WorkloadCertificate> {
    const entry = this.#entry(identity);
    const { certificate } = entry;
    if (certificate !== undefined && certificate.notAfterMs > this.#options.clock.now()) {
      return Promise.resolve(certificate);
    }
    if (entry.pending !== undefined) {
      this.#queue.raise(identity, priority);
      return entry.pending;
    }
    const sinceFailure = this.#options.clock.now() - entry.failedAtMs;
    // Less than nothing is a clock that was set back.
    if (entry.error !== undefined && sinceFailure >= 0 && sinceFailure < MIN_RETRY_GAP_MS) {
      return Promise.reject(unavailable(identity, entry.error));
    }
    return this.#fetch(entry, priority);
  }

  /** Fetches in the background, so that the first connection need not wait. */
  prefetch(identity: string): void {
    this.get(identity, 'prefetch').catch(() => undefined); // recorded in the entry and logged by #fetch
  }

  /** Renews every certificate within `withinMs`, at random times: the CA's root has changed. */
  renewAll(withinMs: number): void {
    const { random = Math.random } = this.#options;
    for (const entry of this.#entries.values()) {
      if (entry.pending !== undefined) {
        entry.renewWithinMs = withinMs;
        continue;
      }
      if (entry.certificate === undefined) continue;
      entry.timer?.cancel();
      this.#schedule(entry, withinMs * random());
    }
  }

  /** Drops an identity that no workload uses any more. */
  forget(identity: string): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined) return;
    entry.isForgotten = true;
    entry.timer?.cancel();
    this.#entries.delete(identity);
    this.#queue.drop(identity, new Error('the identity is no longer needed'));
  }

  /** All identities, sorted, for the admin dump. */
  states(): SecretState[] {
    return [...this.#entries.values()]
      .map(({ identity, certificate, error }) => ({ identity, certificate, error }))
      .sort((a, b) => (a.identity < b.identity ? -1 : 1));
  }

  close(): void {
    for (const identity of [...this.#entries.keys()]) this.forget(identity);
  }

  #entry(identity: string): Entry {
    const known = this.#entries.get(identity);
    if (known !== undefined) return known;
    const entry: Entry = {
      identity,
      certificate: undefined,
      error: undefined,
      pending: undefined,
      timer: undefined,
      backoffMs: 0,
      failedAtMs: 0,
      renewWithinMs: undefined,
      isForgotten: false,
    };
    this.#entries.set(identity, entry);
    return entry;
  }

  #fetch(entry: Entry, priority: FetchPriority): Promise<WorkloadCertificate> {
    entry.timer?.cancel();
    const work = (): Promise<WorkloadCertificate> => this.#options.fetch(entry.identity);
    const pending = this.#queue.run(entry.identity, priority, work).then(
      (certificate) => {
        entry.pending = undefined;
        if (entry.isForgotten)
          throw unavailable(entry.identity, 'the identity is no longer needed');
        this.#accept(entry, certificate);
        return certificate;
      },
      (err: unknown) => {
        entry.pending = undefined;
        this.#recordFailure(entry, errorMessage(err));
        throw unavailable(entry.identity, errorMessage(err));
      },
    );
    entry.pending = pending;
    return pending;
  }

  #accept(entry: Entry, certificate: WorkloadCertificate): void {
    const { clock, logger, random = Math.random } = this.#options;
    const isRenewal = entry.certificate !== undefined;
    entry.certificate = certificate;
    entry.error = undefined;
    entry.backoffMs = 0;
    const soonMs = entry.renewWithinMs === undefined ? Infinity : entry.renewWithinMs * random();
    entry.renewWithinMs = undefined;
    this.#schedule(entry, Math.min(soonMs, renewalDelay(certificate, clock.now(), random())));
    logger.info(
      { identity: entry.identity, serial: certificate.serial, isRenewal },
      'certificate issued',
    );
    this.#options.onCertificate(certificate);
  }

  #recordFailure(entry: Entry, error: string): void {
    if (entry.isForgotten) return;
    const { clock, logger, random = Math.random } = this.#options;
    this.#options.onFailure?.();
    entry.error = error;
    entry.renewWithinMs = undefined;
    entry.failedAtMs = clock.now();
    entry.backoffMs = nextBackoff(entry.backoffMs);
    // Once more at the moment when the old one ends.
    const leftMs = (entry.certificate?.notAfterMs ?? 0) - clock.now();
    const delayMs = retryDelay(entry.backoffMs, leftMs, random());
    this.#schedule(entry, delayMs);
    logger.warn(
      { identity: entry.identity, err: error, retryMs: Math.round(delayMs) },
      'certificate request failed',
    );
  }

  #schedule(entry: Entry, delayMs: number): void {
    this.#wait(entry, delayMs, this.#options.clock.now() + delayMs);
  }

  /** Fetches when so much time has passed, or when the wall clock says so, whatever comes first. */
  #wait(entry: Entry, delayMs: number, dueMs: number): void {
    const { clock, random = Math.random } = this.#options;
    // Not all of a node's at once when the clock has jumped.
    const stepMs = Math.min(delayMs, LOOK_MS * (0.5 + random() / 2));
    entry.timer = clock.after(stepMs, () => {
      if (stepMs < delayMs && clock.now() < dueMs) this.#wait(entry, delayMs - stepMs, dueMs);
      else if (entry.pending === undefined) this.#fetch(entry, 'renewal').catch(() => undefined);
    });
  }
}

function unavailable(identity: string, reason: string): MeshError {
  return new MeshError('certificate_unavailable', `no certificate for ${identity}: ${reason}`);
}
