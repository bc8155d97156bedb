// Certificates that are not renewed and proxies that are refused, as Events on pods, long before a connection fails for
// it. The control plane writes them because it alone may write Events and sees every request: what it issued to whom is
// kept in memory, and proxy-certificates.ts finds what was issued before its start.
import type { Clock, Timer } from '../../common/clock.ts';
import { certificateCondition } from '../../common/identity/certificate-health.ts';
import type { CertificateCondition } from '../../common/identity/certificate-health.ts';
import { parseSpiffeId } from '../../common/identity/spiffe.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { EventNote } from '../../common/kube/events.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { TokenIdentity } from '../../common/kube/token-review.ts';
import type { PlacedPod } from './impersonation.ts';

/** Options of {@link CertificateWatch}. */
export interface CertificateWatchOptions {
  readonly clock: Clock;
  readonly pods: () => ReadonlyMap<string, PlacedPod & KubeObject>;
  readonly record: (event: EventNote) => Promise<void>;
}

/** A certificate that a proxy has. */
export interface Issued {
  readonly identity: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

interface Holding extends Issued {
  /** `namespace/name` of the pod that asked. */
  readonly caller: string;
  condition: CertificateCondition;
}

const CHECK_MS = 30_000;
const REFUSALS_BEFORE_EVENT = 3;
const MAX_HOLDINGS = 200_000;
const REDIRECTION = 'ambient.istio.io/redirection';
const WORDS: Partial<Record<CertificateCondition, string>> = {
  late: 'should have been renewed',
  expiring: 'was not renewed and soon expires',
  expired: 'was not renewed and has expired',
};

/** Keeps account of certificates and looks at them from time to time. */
export class CertificateWatch {
  readonly #options: CertificateWatchOptions;
  /** By caller and identity. */
  readonly #holdings = new Map<string, Holding>();
  /** Refusals in a row, by caller. */
  readonly #refusals = new Map<string, number>();
  #timer: Timer | undefined;

  constructor(options: CertificateWatchOptions) {
    this.#options = options;
    this.#checkLater();
  }

  /** A proxy has got a certificate. */
  issued(caller: TokenIdentity, issued: Issued): void {
    const key = keyOf(caller);
    if (key === undefined) return;
    this.#refusals.delete(key);
    this.#hold(key, issued);
  }

  /** A proxy, `namespace/name` of its pod, says that it has one; what was issued here is known better. */
  found(caller: string, issued: Issued): void {
    if (!this.#holdings.has(placeOf(caller, issued))) this.#hold(caller, issued);
  }

  /** A proxy was refused; several times in a row are an Event on its pod. `reason` is one of a closed set. */
  refused(caller: TokenIdentity, reason: string): void {
    const key = keyOf(caller);
    const pod = key === undefined ? undefined : this.#options.pods().get(key);
    if (key === undefined || pod === undefined) return;
    const count = (this.#refusals.get(key) ?? 0) + 1;
    this.#refusals.set(key, count);
    if (count !== REFUSALS_BEFORE_EVENT) return;
    this.#warn(pod, 'CertificateRefused', `certificates are refused to this pod: ${reason}`);
  }

  /** Looks at all of them now. */
  check(): void {
    const pods = this.#options.pods();
    const now = this.#options.clock.now();
    for (const caller of this.#refusals.keys()) {
      if (!pods.has(caller)) this.#refusals.delete(caller);
    }
    for (const [place, holding] of this.#holdings) {
      const condition = certificateCondition(holding, now);
      if (condition === holding.condition) continue;
      const users = usersOf(holding, pods);
      if (users.length === 0) this.#holdings.delete(place);
      holding.condition = condition;
      const words = WORDS[condition];
      if (words === undefined) continue;
      const end = new Date(holding.notAfterMs).toISOString();
      const note = `the certificate of ${holding.identity} at ${holding.caller} ${words} (${end})`;
      for (const pod of users) this.#warn(pod, 'CertificateNotRenewed', note);
    }
  }

  close(): void {
    this.#timer?.cancel();
  }

  #hold(caller: string, issued: Issued): void {
    const place = placeOf(caller, issued);
    if (this.#holdings.size >= MAX_HOLDINGS && !this.#holdings.has(place)) return;
    this.#holdings.set(place, { ...issued, caller, condition: 'ok' });
  }

  #checkLater(): void {
    this.#timer = this.#options.clock.after(CHECK_MS, () => {
      this.check();
      this.#checkLater();
    });
  }

  #warn(object: KubeObject, reason: string, note: string): void {
    const event = {
      kind: KINDS.pods,
      object,
      reason,
      note,
      action: 'Renew',
      type: 'Warning',
    } as const;
    void this.#options.record(event);
  }
}

const placeOf = (caller: string, { identity }: Issued): string => `${caller}|${identity}`;

function keyOf({ namespace, podName }: TokenIdentity): string | undefined {
  return podName === undefined ? undefined : `${namespace}/${podName}`;
}

/** The pods whose connections need that certificate: the one that asked for its own, or those it serves. */
function usersOf(
  { identity, caller }: Holding,
  pods: ReturnType<CertificateWatchOptions['pods']>,
): (PlacedPod & KubeObject)[] {
  const asking = pods.get(caller);
  if (asking === undefined) return [];
  if (hasIdentity(asking, identity)) return [asking];
  return [...pods.values()].filter(
    (pod) =>
      hasIdentity(pod, identity) &&
      pod.spec?.nodeName === asking.spec?.nodeName &&
      pod.metadata?.annotations?.[REDIRECTION] === 'enabled',
  );
}

/** Whether the namespace and the account of an identity are the pod's. */
export function hasIdentity({ metadata, spec }: PlacedPod, identity: string): boolean {
  const id = parseSpiffeId(identity);
  return (
    id !== undefined &&
    metadata?.namespace === id.namespace &&
    (spec?.serviceAccountName ?? 'default') === id.serviceAccount
  );
}
