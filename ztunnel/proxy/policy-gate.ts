// The policies of a data thread as a destination sees them. A workload's record may name a policy that has not arrived:
// a new connection waits for it a little and is refused if it does not come. (Istio's ztunnel goes on without it; that
// lets through what the policy forbids whenever the two arrive in the wrong order.) Running connections are judged by
// what is here, so that a policy which leaves before the record that names it ends nothing.
import { evaluatePolicies, policiesFor } from '../../common/policy/evaluate.ts';
import type { ConnectionFacts, PolicyVerdict } from '../../common/policy/evaluate.ts';
import type { Policy } from '../../common/policy/model.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';

/** How long a new connection waits for a policy that its destination names. */
export const POLICY_WAIT_MS = 5000;

type InForce = ReturnType<typeof policiesFor>;

/** Decides for all pods of a thread. */
export class PolicyGate {
  readonly #reactor: Pick<Reactor, 'after'>;
  readonly #policies: ReadonlyMap<string, Policy>;
  /** What is in force for a record; forgotten when policies change. Records are replaced, never changed. */
  #inForce = new WeakMap<Workload, InForce>();
  readonly #waiting = new Set<() => void>();

  /** `policies` is read at every decision; call {@link changed} after changing it or a workload. */
  constructor(reactor: Pick<Reactor, 'after'>, policies: ReadonlyMap<string, Policy>) {
    this.#reactor = reactor;
    this.#policies = policies;
  }

  /** Decides with the policies that are here. */
  check(workload: Workload, facts: ConnectionFacts): PolicyVerdict {
    return evaluatePolicies(this.#of(workload).policies, facts);
  }

  /** True when all policies that the record names are here. */
  isComplete(workload: Workload): boolean {
    return this.#of(workload).missing.length === 0;
  }

  /**
   * Waits until all policies that the record names are here, or the time is over; then the names of those that are not.
   * `current` gives the record as it is then; a pod without one misses nothing.
   */
  async missing(current: () => Workload | undefined): Promise<readonly string[]> {
    const missing = (): readonly string[] => {
      const workload = current();
      return workload === undefined ? [] : this.#of(workload).missing;
    };
    if (missing().length === 0) return [];
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        timer.cancel();
        this.#waiting.delete(look);
        resolve();
      };
      const look = (): void => {
        if (missing().length === 0) finish();
      };
      const timer = this.#reactor.after(POLICY_WAIT_MS, finish);
      this.#waiting.add(look);
    });
    return missing();
  }

  /** Policies or workloads have changed. */
  changed(): void {
    this.#inForce = new WeakMap();
    for (const look of [...this.#waiting]) look();
  }

  #of(workload: Workload): InForce {
    const known = this.#inForce.get(workload);
    if (known !== undefined) return known;
    const inForce = policiesFor(this.#policies, workload);
    this.#inForce.set(workload, inForce);
    return inForce;
  }
}
