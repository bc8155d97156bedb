// A pod's own workload record. ZDS often names a pod before xDS describes it, so a connection may wait a little.
import type { Workload } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';

const WAIT_MS = 5000;

/** Finds and waits for the record. */
export class LocalWorkload {
  readonly #store: WorkloadStore;
  readonly #reactor: Reactor;
  readonly pod: PodInfo;
  /** Kept until the store changes. */
  #current: Workload | undefined;
  #waiting: ((workload: Workload | undefined) => void)[] = [];

  constructor(store: WorkloadStore, reactor: Reactor, pod: PodInfo) {
    this.#store = store;
    this.#reactor = reactor;
    this.pod = pod;
  }

  /** The record now. */
  get current(): Workload | undefined {
    if (this.#current === undefined) {
      const { namespace, name, serviceAccount } = this.pod;
      this.#current = this.#store.findLocal(namespace, name, serviceAccount);
    }
    return this.#current;
  }

  /** The record, waiting up to five seconds for it. */
  wait(): Promise<Workload | undefined> {
    return new Promise((resolve) => {
      const timer = this.#reactor.after(WAIT_MS, () => {
        this.#waiting = this.#waiting.filter((waiter) => waiter !== finish);
        resolve(undefined);
      });
      const finish = (workload: Workload | undefined): void => {
        timer.cancel();
        resolve(workload);
      };
      this.#waiting.push(finish);
    });
  }

  /** The store has changed. */
  notify(): void {
    this.#current = undefined;
    if (this.#waiting.length === 0) return;
    const workload = this.current;
    if (workload === undefined) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const finish of waiting) finish(workload);
  }

  /** The pod is gone. */
  close(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const finish of waiting) finish(undefined);
  }
}
