// XDS_ON_DEMAND: addresses are asked for when a connection needs them, and stay subscribed to. Who
// asks waits at most some seconds. What does not exist is remembered within a bound (a pod may scan a whole network) and
// for some seconds only: istiod tells of changes by the names of resources, not of who comes to an address.
import { isIP } from 'node:net';
import type { Clock, Timer } from '../../common/clock.ts';
import { serviceKey } from '../../common/workload/model.ts';
import type { AddressResource, GatewayAddress } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { WantedNames } from '../../common/xds/delta-client.ts';

/** As long as for a pod's own record. */
export const ANSWER_WAIT_MS = 5000;
/** For how long nobody is believed to have an address. */
export const ABSENT_MS = 10_000;
const MAX_ABSENT = 4096;
const MAX_UNANSWERED = 4096;
/** A waypoint behind a service behind an address is two; what leads further is a loop. */
const MAX_DEPTH = 4;

/** Options of {@link OnDemand}. */
export interface OnDemandOptions {
  readonly store: WorkloadStore;
  readonly clock: Clock;
  /** Tells the control plane. */
  readonly changeNames: (added: readonly string[], dropped: readonly string[]) => void;
  /** Names that are no longer subscribed to: what is known of them is stale from now on. */
  readonly onForgotten: (names: readonly string[]) => void;
  readonly maxAbsent?: number;
  readonly maxUnanswered?: number;
}

/** What has become of a name. */
type Answer = 'present' | 'absent';

/** All names asked for. */
export class OnDemand implements WantedNames {
  readonly #options: OnDemandOptions;
  readonly #answers = new Map<string, Answer>();
  /** When it was said, by {@link Clock.elapsed}; in that order. */
  readonly #absent = new Map<string, number>();
  #sweep: Timer | undefined;
  /** Asked for and not answered, each with those who wait. */
  readonly #waiters = new Map<string, Set<() => void>>();
  /** To be asked for with the next message. */
  #added: string[] = [];

  constructor(options: OnDemandOptions) {
    this.#options = options;
  }

  get answered(): Iterable<string> {
    return this.#answers.keys();
  }

  get unanswered(): Iterable<string> {
    return this.#waiters.keys();
  }

  /**
   * Everything that a decision about an address (`network/ip`) can touch. False when an answer has not come in time, or
   * too many are waited for.
   */
  async complete(key: string): Promise<boolean> {
    let missing = this.#unanswered([key]);
    for (let depth = 0; depth < MAX_DEPTH && missing.length > 0; depth++) {
      const answers = await Promise.all(missing.map((name) => this.fetch(name)));
      if (answers.includes(false)) return false;
      missing = this.#unanswered(referencesOf(this.#options.store, key));
    }
    return true;
  }

  /** Asks for a name once; true when it has been answered, false when the answer has not come in time. */
  fetch(name: string): Promise<boolean> {
    if (this.#answers.has(name)) return Promise.resolve(true);
    const waiters = this.#waiters.get(name) ?? this.#ask(name);
    if (waiters === undefined) return Promise.resolve(false);
    return new Promise((resolve) => {
      const timer = this.#options.clock.after(ANSWER_WAIT_MS, () => {
        waiters.delete(onAnswer);
        resolve(false);
      });
      const onAnswer = (): void => {
        timer.cancel();
        resolve(true);
      };
      waiters.add(onAnswer);
    });
  }

  /** A whole push has been applied: these names mean something now, and these no longer or not at all. */
  applied(present: Iterable<string>, absent: Iterable<string>): void {
    for (const name of absent) this.#answer(name, 'absent');
    for (const name of present) this.#answer(name, 'present');
    const excess = this.#absent.size - (this.#options.maxAbsent ?? MAX_ABSENT);
    if (excess > 0) this.#forget([...this.#absent.keys()].slice(0, excess));
    if (this.#sweep === undefined) this.#armSweep();
  }

  /** Resources have left these names, and others may come there unannounced: who needs one asks again. */
  left(names: readonly string[]): void {
    this.#forget(names.filter((name) => this.#answers.get(name) === 'present'));
  }

  /** To the end of the oldest absence of an address. */
  #armSweep(): void {
    const { clock } = this.#options;
    const oldest = [...this.#absent].find(([name]) => isAddress(name));
    if (oldest === undefined) return;
    this.#sweep = clock.after(oldest[1] + ABSENT_MS - clock.elapsed(), () => {
      this.#sweep = undefined;
      const saidMs = clock.elapsed() - ABSENT_MS;
      const old = [...this.#absent].filter(([name, atMs]) => atMs <= saidMs && isAddress(name));
      this.#forget(old.map(([name]) => name));
      this.#armSweep();
    });
  }

  /** Undefined: there is no room. */
  #ask(name: string): Set<() => void> | undefined {
    if (this.#waiters.size >= (this.#options.maxUnanswered ?? MAX_UNANSWERED)) {
      const idle = [...this.#waiters].find(([, waiters]) => waiters.size === 0);
      if (idle === undefined) return undefined;
      this.#forget([idle[0]]);
    }
    const waiters = new Set<() => void>();
    this.#waiters.set(name, waiters);
    if (this.#added.push(name) === 1) queueMicrotask(() => this.#flush());
    return waiters;
  }

  #flush(): void {
    const added = this.#added.filter((name) => this.#waiters.has(name));
    this.#added = [];
    this.#options.changeNames(added, []);
  }

  #answer(name: string, answer: Answer): void {
    const waiters = this.#waiters.get(name);
    if (waiters === undefined && !this.#answers.has(name)) return;
    this.#waiters.delete(name);
    this.#answers.set(name, answer);
    this.#absent.delete(name);
    if (answer === 'absent') this.#absent.set(name, this.#options.clock.elapsed());
    for (const onAnswer of waiters ?? []) onAnswer();
  }

  #forget(names: readonly string[]): void {
    if (names.length === 0) return;
    for (const name of names) {
      this.#answers.delete(name);
      this.#absent.delete(name);
      this.#waiters.delete(name);
    }
    this.#options.changeNames([], names);
    this.#options.onForgotten(names);
  }

  #unanswered(names: readonly string[]): string[] {
    return names.filter((name) => !this.#answers.has(name));
  }
}

/** `network/ip`, of which nobody tells unasked; a resource is told by its own name when it comes to be. */
function isAddress(name: string): boolean {
  return isIP(name.slice(name.lastIndexOf('/') + 1)) !== 0;
}

/** All names that a resource answers to: its own, its addresses, and what the control plane says. */
export function namesOf(resource: AddressResource, aliases: readonly string[]): string[] {
  if (resource.kind === 'service') {
    const { vips } = resource.service;
    const addresses = vips.map(({ network, ip }) => `${network}/${ip}`);
    return [serviceKey(resource.service), ...addresses, ...aliases];
  }
  const { uid, network, ips } = resource.workload;
  return [uid, ...ips.map((ip) => `${network}/${ip}`), ...aliases];
}

/** Waypoints and network gateways, by name, that an address leads to as far as they are known. Pure. */
export function referencesOf(store: WorkloadStore, key: string): string[] {
  const names = new Set<string>();
  const visitGateway = (reference: GatewayAddress | undefined): void => {
    const name = reference && referenceName(reference);
    if (reference === undefined || name === undefined || names.has(name)) return;
    names.add(name);
    const found = store.findGateway(reference);
    if (found !== undefined) visit(found);
  };
  const visit = (resource: AddressResource): void => {
    if (resource.kind === 'workload') {
      visitGateway(resource.workload.waypoint);
      visitGateway(resource.workload.networkGateway);
      return;
    }
    const { service } = resource;
    for (const { destination } of service.weightedWaypoints) visitGateway(destination);
    visitGateway(service.waypoint);
    for (const workload of store.endpoints(serviceKey(service)).values())
      visitGateway(workload.networkGateway);
  };
  const at = key.lastIndexOf('/');
  const [network, ip] = [key.slice(0, at), key.slice(at + 1)];
  for (const service of store.servicesAt(network, ip)) visit({ kind: 'service', service });
  for (const workload of store.workloadsAt(network, ip)) visit({ kind: 'workload', workload });
  return [...names];
}

function referenceName(reference: GatewayAddress): string {
  return reference.kind === 'address'
    ? `${reference.network}/${reference.ip}`
    : serviceKey(reference);
}
