// One pod's way into the mesh and out of it. All steps of a pod run one after the other (its owner sees to that).
// Joining: the node proxy confirms the pod, then the rules, then the annotation that tells others to use HBONE.
// Leaving: the annotation first, the control plane confirms that nobody uses HBONE any more, the redirect of new
// connections goes, and only when the last redirected connection has ended the rest.
import { sleep, type Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import {
  LEAVING_ANNOTATION,
  REDIRECTION_ANNOTATION,
  WITHDRAWN_ANNOTATION,
} from '../rules/eligibility.ts';
import { capturesDns, DEFAULT_POD_RULES } from '../rules/pod-rules.ts';
import type { AgentConfig } from './config.ts';
import type { HostProbes } from './host-probes.ts';
import type { PodRef } from './pod.ts';
import { applyRedirect, removeRedirect, weakenRedirect } from './pod-redirect.ts';
import { redirectedConnections } from './redirected-connections.ts';
import type { ZdsPod, ZdsServer } from './zds-server.ts';

const WITHDRAWAL_LIMIT_MS = 10_000;
const DRAIN_POLL_MS = 250;
/** How many polls in a row must find no connection: a proxy may just be about to open one. */
const DRAIN_CALM_POLLS = 2;

export type Annotations = Readonly<Record<string, string | null>>;

export interface PodPort {
  /** The pod as the API has it now; undefined when it is gone. */
  current(uid: string): PodRef | undefined;
  /** Whether the pod must be in the mesh now. */
  isWanted(uid: string): boolean;
  annotate(pod: PodRef, annotations: Annotations): Promise<void>;
}

export interface PodParts {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly zds: ZdsServer;
  readonly probes: HostProbes;
  readonly port: PodPort;
}

/** `out` is never kept: such pods have no object of this class. */
export type PodPhase = 'joining' | 'in' | 'leaving';

export class EnrolledPod {
  readonly #parts: PodParts;
  #pod: PodRef;
  #netns: Netns | undefined;
  /** The time of a leave that an earlier agent began. */
  #resumedStamp: string | undefined;
  phase: PodPhase = 'joining';

  constructor(parts: PodParts, pod: PodRef, netns: Netns | undefined) {
    this.#parts = parts;
    this.#pod = pod;
    this.#netns = netns;
  }

  get uid(): string {
    return this.#pod.uid;
  }

  get name(): string {
    return `${this.#pod.namespace}/${this.#pod.name}`;
  }

  /** What a node proxy is told. */
  get zdsPod(): ZdsPod {
    const { uid, name, namespace, serviceAccount } = this.#pod;
    return { uid, name, namespace, serviceAccount, fd: this.#netns?.fd };
  }

  /** A sandbox made anew has another namespace and maybe another address. */
  replace(pod: PodRef, netns: Netns): void {
    this.#netns?.close();
    this.#netns = netns;
    this.#pod = pod;
  }

  /** Puts the pod into the mesh; throws when a step fails, and can be repeated. */
  async join(): Promise<void> {
    this.#resumedStamp = undefined;
    await this.#parts.zds.add(this.zdsPod);
    await this.#redirect();
    this.phase = 'in';
    await this.#parts.zds.ensure(this.zdsPod);
  }

  /**
   * Takes the pod up after the agent was started again; the proxy gets it with the snapshot. A pod that was leaving
   * goes on where it was: its rules are not made strong again.
   */
  async resume(): Promise<void> {
    this.#resumedStamp = this.#pod.annotations[LEAVING_ANNOTATION];
    if (this.#resumedStamp === undefined) await this.#redirect();
    else await this.#parts.probes.add(this.uid, this.#pod.ips);
    this.phase = this.#resumedStamp === undefined ? 'in' : 'leaving';
  }

  async #redirect(): Promise<void> {
    const { config, probes } = this.#parts;
    if (this.#netns === undefined) return;
    await probes.add(this.uid, this.#pod.ips);
    await applyRedirect(this.#netns, {
      ...DEFAULT_POD_RULES,
      ipv6: config.ipv6,
      dnsCapture: capturesDns(this.#pod.annotations, config.dnsCapture),
      bypassInbound: this.#pod.annotations['ambient.istio.io/bypass-inbound-capture'] === 'true',
      virtualInterfaces: (this.#pod.annotations['istio.io/reroute-virtual-interfaces'] ?? '')
        .split(',')
        .filter((word) => /^[\w.-]+$/.test(word)),
      probeIpv4: config.probeIpv4,
      probeIpv6: config.probeIpv6,
    });
  }

  /** Says on the pod that it is in the mesh. */
  async announce(): Promise<void> {
    await this.#parts.port.annotate(this.#pod, {
      [REDIRECTION_ANNOTATION]: 'enabled',
      [LEAVING_ANNOTATION]: null,
      [WITHDRAWN_ANNOTATION]: null,
    });
  }

  /** Takes the running pod out of the mesh. False when it was wanted again meanwhile, and is back. */
  async leave(): Promise<boolean> {
    const { port, logger } = this.#parts;
    this.phase = 'leaving';
    const stamp = this.#resumedStamp ?? String(this.#parts.clock.now());
    if (this.#resumedStamp === undefined) {
      await port.annotate(this.#pod, {
        [REDIRECTION_ANNOTATION]: null,
        [LEAVING_ANNOTATION]: stamp,
        [WITHDRAWN_ANNOTATION]: null,
      });
    }
    this.#resumedStamp = undefined;
    logger.info({ pod: this.name }, 'pod leaves the mesh');
    await this.#waitWithdrawn(stamp);
    if (this.#isBack()) return this.#comeBack();
    if (this.#netns !== undefined) {
      await weakenRedirect(this.#netns);
      await this.#waitDrained(this.#netns);
      if (this.#isBack()) return this.#comeBack();
    }
    await this.#parts.zds.remove(this.uid);
    if (this.#netns !== undefined && this.#isThere()) await removeRedirect(this.#netns);
    await this.#parts.probes.remove(this.uid);
    if (this.#isThere()) {
      await port.annotate(this.#pod, {
        [REDIRECTION_ANNOTATION]: null,
        [LEAVING_ANNOTATION]: null,
        [WITHDRAWN_ANNOTATION]: null,
      });
    }
    logger.info({ pod: this.name }, 'pod has left the mesh');
    return true;
  }

  /** The pod itself is gone, its namespace with it. */
  async forget(): Promise<void> {
    await this.#parts.zds.remove(this.uid);
    await this.#parts.probes.remove(this.uid);
    this.close();
  }

  close(): void {
    this.#netns?.close();
    this.#netns = undefined;
  }

  #isThere(): boolean {
    return this.#parts.port.current(this.uid) !== undefined;
  }

  #isBack(): boolean {
    return this.#isThere() && this.#parts.port.isWanted(this.uid);
  }

  async #comeBack(): Promise<boolean> {
    await this.#redirect();
    this.phase = 'in';
    await this.announce();
    this.#parts.logger.info({ pod: this.name }, 'pod stays in the mesh');
    return false;
  }

  async #waitWithdrawn(stamp: string): Promise<void> {
    const { clock, port, logger } = this.#parts;
    const limit = clock.now() + WITHDRAWAL_LIMIT_MS;
    while (clock.now() < limit) {
      const pod = port.current(this.uid);
      if (pod === undefined || port.isWanted(this.uid)) return;
      if (pod.annotations[WITHDRAWN_ANNOTATION] === stamp) return;
      await sleep(clock, 50);
    }
    logger.warn({ pod: this.name }, 'control plane did not confirm the withdrawal');
  }

  async #waitDrained(netns: Netns): Promise<void> {
    const { clock, config, logger } = this.#parts;
    const limit = clock.now() + config.leaveDrainMs;
    let calm = 0;
    while (clock.now() < limit && this.#isThere() && !this.#isBack()) {
      try {
        calm = redirectedConnections(netns) === 0 ? calm + 1 : 0;
      } catch (err) {
        logger.warn({ pod: this.name, err: errorMessage(err) }, 'cannot read its connections');
        return;
      }
      if (calm >= DRAIN_CALM_POLLS) return;
      await sleep(clock, DRAIN_POLL_MS);
    }
  }
}
