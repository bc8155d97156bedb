// Watches what pods open, and holds those to a rate that new-connection-pace.ts names.
import { NewConnectionPace } from './new-connection-pace.ts';
import type { PacedListeners } from './paced-listeners.ts';
import { ProcessorWait } from './processor-wait.ts';
import type { ProxyContext } from './proxy-context.ts';

export const PACE_WINDOW_MS = 100;

/** A pod as the pacer needs it. */
interface PacedPod {
  readonly uid: string;
  readonly local: { readonly pod: { readonly namespace: string; readonly name: string } };
  readonly connections: { count(direction: 'inbound' | 'outbound'): number };
  readonly pace: PacedListeners;
}

/** The pods of one data thread. */
export class PodPacer {
  readonly #context: ProxyContext;
  readonly #pods: ReadonlyMap<string, PacedPod>;
  readonly #pace: NewConnectionPace;
  readonly #wait = new ProcessorWait();
  readonly #accepted = new Map<string, number>();
  #lookedMs: number;

  constructor(context: ProxyContext, pods: ReadonlyMap<string, PacedPod>) {
    const { config, reactor } = context;
    this.#context = context;
    this.#pods = pods;
    this.#pace = new NewConnectionPace(config.podLimits.fairPerSec / config.dataThreads);
    this.#lookedMs = reactor.now();
  }

  /** Once a window. */
  look(): void {
    const nowMs = this.#context.reactor.now();
    const passedSec = Math.max(1, nowMs - this.#lookedMs) / 1000;
    this.#lookedMs = nowMs;
    const opened = [...this.#pods.values()].map((pod) => {
      const { uid, pace } = pod;
      const count = pace.acceptedTotal - (this.#accepted.get(uid) ?? 0);
      this.#accepted.set(uid, pace.acceptedTotal);
      return { pod, uid, perSec: count / passedSec };
    });
    if (this.#accepted.size > this.#pods.size) this.#forget();
    if (!this.#pace.isNeeded(opened)) return;
    // Only now, because it goes over all connections. Not those that a pod serves: they may be the very ones of the pod that
    // opens so many.
    const rates = opened.map(({ pod, uid, perSec }) => {
      return { uid, perSec, isActive: pod.connections.count('outbound') > 0 };
    });
    const limits = this.#pace.decide(this.#wait.share(nowMs), rates);
    for (const pod of this.#pods.values()) this.#hold(pod, limits.get(pod.uid));
  }

  #hold({ local: { pod }, pace }: PacedPod, perSec: number | undefined): void {
    const isNew = (pace.limit === undefined) !== (perSec === undefined);
    pace.limit = perSec;
    if (!isNew) return;
    const fields = { pod: `${pod.namespace}/${pod.name}`, perSec: Math.round(perSec ?? 0) };
    const text =
      perSec === undefined
        ? 'the pod may open as many connections as it likes again'
        : 'processors are full: the pod is held to a rate of new connections, others have theirs';
    this.#context.logger.info(fields, text);
  }

  #forget(): void {
    for (const uid of this.#accepted.keys()) if (!this.#pods.has(uid)) this.#accepted.delete(uid);
  }
}
