// Brings every pod of the node to where its labels want it: decides, runs the steps of a pod one after the other,
// retries with back-off. Pods are joined by the CNI event when they start, or here when they already run.
import { sleep, type Clock } from '../../common/clock.ts';
import { errorMessage, MeshError } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import {
  decideEligibility,
  LEAVING_ANNOTATION,
  REDIRECTION_ANNOTATION,
} from '../rules/eligibility.ts';
import type { AgentConfig } from './config.ts';
import { EnrolledPod, type Annotations, type PodParts } from './enrolled-pod.ts';
import type { HostProbes } from './host-probes.ts';
import type { AgentMetrics } from './metrics.ts';
import { eligiblePod, podRef, type Pod, type PodRef } from './pod.ts';
import { findPodNetns } from './pod-netns.ts';
import type { ZdsPod, ZdsServer } from './zds-server.ts';

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;

export interface EnrollerOptions {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: AgentMetrics;
  readonly zds: ZdsServer;
  readonly probes: HostProbes;
  readonly pods: () => Iterable<Pod>;
  readonly namespaceLabels: (namespace: string) => Readonly<Record<string, string>>;
  readonly annotate: (pod: PodRef, annotations: Annotations) => Promise<void>;
}

export class Enroller {
  readonly #options: EnrollerOptions;
  readonly #parts: PodParts;
  readonly #enrolled = new Map<string, EnrolledPod>();
  /** The tail of each pod's queue of steps; an entry ends with its last step. */
  readonly #queues = new Map<string, Promise<unknown>>();
  readonly #byUid = new Map<string, Pod>();
  #isClosed = false;

  constructor(options: EnrollerOptions) {
    this.#options = options;
    const { config, clock, logger, zds, probes, annotate } = options;
    const port = {
      current: (uid: string) => {
        const pod = this.#byUid.get(uid);
        return pod === undefined ? undefined : podRef(pod);
      },
      isWanted: (uid: string) => this.#isWanted(uid),
      annotate,
    };
    this.#parts = { config, clock, logger, zds, probes, port };
  }

  /** The pods a new node proxy is told of. */
  zdsPods(): ZdsPod[] {
    return [...this.#enrolled.values()]
      .filter(({ phase }) => phase !== 'joining')
      .map(({ zdsPod }) => zdsPod);
  }

  /** At the start: pods that carry our annotations are in the mesh, whatever their labels say now. */
  async restore(): Promise<void> {
    for (const pod of this.#options.pods()) {
      const ref = podRef(pod);
      this.#byUid.set(ref.uid, pod);
      const isOurs =
        ref.annotations[REDIRECTION_ANNOTATION] === 'enabled' ||
        ref.annotations[LEAVING_ANNOTATION] !== undefined;
      if (!isOurs || ref.isFinished || pod.spec?.hostNetwork === true) continue;
      const enrolled = new EnrolledPod(this.#parts, ref, this.#findNetns(ref));
      this.#enrolled.set(ref.uid, enrolled);
      try {
        await enrolled.resume();
      } catch (err) {
        this.#warn(enrolled.name, err, 'rules not applied again');
      }
    }
    this.#report();
  }

  /** A pod was added, changed, or (undefined) removed. */
  onPod(uid: string, pod: Pod | undefined): void {
    if (pod === undefined) this.#byUid.delete(uid);
    else this.#byUid.set(uid, pod);
    this.reconcile(uid);
  }

  /** A namespace's labels changed. */
  onNamespace(namespace: string): void {
    for (const [uid, pod] of this.#byUid) {
      if (pod.metadata?.namespace === namespace) this.reconcile(uid);
    }
  }

  /** Looks at the pod again, after what is under way for it. */
  reconcile(uid: string): void {
    if (!this.#needsWork(uid)) return;
    // One look is enough when one is already waiting: it will see this change too.
    const key = `${uid}/look`;
    if (this.#queues.has(key)) return;
    const look = this.#enqueue(uid, async () => {
      this.#queues.delete(key);
      await this.#reconcileWithRetry(uid);
    });
    this.#queues.set(key, look);
  }

  /** The CNI plugin's event: enrols the starting pod or throws the reason for its failure. */
  addFromPlugin(
    namespace: string,
    name: string,
    ips: readonly string[],
    netns: Netns,
  ): Promise<void> {
    const pod = [...this.#byUid.values()].find(
      ({ metadata }) => metadata?.namespace === namespace && metadata.name === name,
    );
    if (pod === undefined) {
      netns.close();
      throw new MeshError('unknown_pod', `pod ${namespace}/${name} is not known on this node yet`);
    }
    const ref = { ...podRef(pod), ips };
    return this.#enqueue(ref.uid, async () => {
      if (!this.#isWanted(ref.uid)) {
        netns.close();
        throw new MeshError('not_eligible', `pod ${namespace}/${name} does not join the mesh`);
      }
      const known = this.#enrolled.get(ref.uid);
      const enrolled = known ?? new EnrolledPod(this.#parts, ref, undefined);
      enrolled.replace(ref, netns);
      await enrolled.join();
      this.#enrolled.set(ref.uid, enrolled);
      this.#report();
      this.#options.logger.info({ pod: enrolled.name }, 'pod joined the mesh at its start');
      void this.#enqueue(ref.uid, () => this.#announce(enrolled));
    });
  }

  close(): void {
    this.#isClosed = true;
    for (const enrolled of this.#enrolled.values()) enrolled.close();
  }

  #findNetns(ref: PodRef): Netns | undefined {
    return findPodNetns(this.#options.config.netnsDir, ref.ips);
  }

  #isWanted(uid: string): boolean {
    const pod = this.#byUid.get(uid);
    if (pod === undefined) return false;
    const labels = this.#options.namespaceLabels(pod.metadata?.namespace ?? '');
    return decideEligibility(eligiblePod(pod), labels, this.#options.config.eligibility).isEligible;
  }

  #needsWork(uid: string): boolean {
    const enrolled = this.#enrolled.get(uid);
    const pod = this.#byUid.get(uid);
    if (pod === undefined) return enrolled !== undefined;
    return this.#isWanted(uid) ? enrolled?.phase !== 'in' : enrolled !== undefined;
  }

  #enqueue<T>(uid: string, step: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(uid) ?? Promise.resolve();
    const result = before.then(step);
    const settled = result
      .catch(() => undefined)
      .finally(() => {
        if (this.#queues.get(uid) === settled) this.#queues.delete(uid);
      });
    this.#queues.set(uid, settled);
    return result;
  }

  async #reconcileWithRetry(uid: string): Promise<void> {
    const { clock, metrics } = this.#options;
    let delayMs = RETRY_FIRST_MS;
    while (!this.#isClosed && this.#needsWork(uid)) {
      try {
        if (!(await this.#step(uid))) return;
        delayMs = RETRY_FIRST_MS;
      } catch (err) {
        this.#warn(this.#enrolled.get(uid)?.name ?? uid, err, 'pod not brought to its state');
        await sleep(clock, delayMs);
        delayMs = Math.min(delayMs * 2, RETRY_MAX_MS);
      }
    }
    metrics.count('nodeagent_reconcile_events_total', 'type="update"');
  }

  /** One move towards the wanted state; false when there is nothing to do now. */
  async #step(uid: string): Promise<boolean> {
    const pod = this.#byUid.get(uid);
    const enrolled = this.#enrolled.get(uid);
    if (pod === undefined || podRef(pod).isFinished) {
      this.#enrolled.delete(uid);
      await enrolled?.forget();
      this.#report();
      return false;
    }
    if (!this.#isWanted(uid)) {
      if (enrolled === undefined) return false;
      if (await enrolled.leave()) {
        this.#enrolled.delete(uid);
        enrolled.close();
      }
      this.#report();
      return true;
    }
    return this.#joinRunning(podRef(pod), enrolled);
  }

  /** A pod without an address is just starting: the CNI plugin brings it. */
  async #joinRunning(ref: PodRef, known: EnrolledPod | undefined): Promise<boolean> {
    if (ref.ips.length === 0) return false;
    let enrolled = known;
    if (enrolled === undefined) {
      const netns = this.#findNetns(ref);
      if (netns === undefined) {
        throw new MeshError('no_netns', `no netns owns ${ref.ips.join(', ')}`);
      }
      enrolled = new EnrolledPod(this.#parts, ref, netns);
      this.#enrolled.set(ref.uid, enrolled);
    }
    await enrolled.join();
    this.#report();
    this.#options.logger.info({ pod: enrolled.name }, 'running pod joined the mesh');
    await this.#announce(enrolled);
    return true;
  }

  async #announce(enrolled: EnrolledPod): Promise<void> {
    const { clock } = this.#options;
    let delayMs = RETRY_FIRST_MS;
    while (!this.#isClosed && this.#byUid.has(enrolled.uid) && enrolled.phase === 'in') {
      try {
        await enrolled.announce();
        return;
      } catch (err) {
        this.#warn(enrolled.name, err, 'annotation not written');
        await sleep(clock, delayMs);
        delayMs = Math.min(delayMs * 2, RETRY_MAX_MS);
      }
    }
  }

  #report(): void {
    this.#options.metrics.set('ambient_enrolled_pods', this.zdsPods().length);
  }

  #warn(pod: string, err: unknown, message: string): void {
    this.#options.logger.warn({ pod, err: errorMessage(err) }, message);
  }
}
