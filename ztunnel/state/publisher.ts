// What a data thread is told of the workload model (design: the control thread has all of it, a data thread only
// what it uses). Local workloads are always pushed; an address is pushed once asked for, together with all that a
// decision about it can touch: services there, their endpoints, waypoints. Later changes of any of it follow.
import { serviceKey } from '../../common/workload/model.ts';
import type {
  AddressResource,
  GatewayAddress,
  Service,
  Workload,
} from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';

/** A change for the data thread. */
export interface Publication {
  readonly upserts: readonly AddressResource[];
  readonly removed: readonly string[];
  readonly answers: readonly string[];
  /** Asked for in vain: the control plane has not answered. */
  readonly unanswered: readonly string[];
  /** No longer followed: to be asked for again when needed. */
  readonly forgotten: readonly string[];
  readonly isReset: boolean;
}

/** A publication that says nothing. */
export const NOTHING: Publication = {
  upserts: [],
  removed: [],
  answers: [],
  unanswered: [],
  forgotten: [],
  isReset: false,
};
const MAX_ADDRESSES = 16_384;

/** Follows one data thread's interest. */
export class StatePublisher {
  readonly #store: WorkloadStore;
  readonly #isLocal: (workload: Workload) => boolean;
  readonly #maxAddresses: number;
  /** `network/ip` asked for. */
  readonly #addresses = new Set<string>();
  /** Services whose record is wanted, known or not. */
  readonly #services = new Set<string>();
  /** Services whose endpoints are wanted too. */
  readonly #expanded = new Set<string>();
  /** Services that are a waypoint or gateway of something: expanded as soon as they are known. */
  readonly #gateways = new Set<string>();
  /** Resource names the thread has. */
  readonly #sent = new Set<string>();

  constructor(
    store: WorkloadStore,
    isLocal: (workload: Workload) => boolean,
    maxAddresses = MAX_ADDRESSES,
  ) {
    this.#store = store;
    this.#isLocal = isLocal;
    this.#maxAddresses = maxAddresses;
  }

  /** After the store has changed: what the thread must hear; undefined when nothing. */
  publish(
    changed: readonly AddressResource[],
    removed: readonly string[],
  ): Publication | undefined {
    const collected = new Map<string, AddressResource>();
    for (const resource of changed) {
      if (resource.kind === 'workload') {
        if (this.#wantsWorkload(resource.workload)) this.#addWorkload(collected, resource.workload);
      } else if (this.#wantsService(resource.service)) {
        const key = serviceKey(resource.service);
        this.#addService(
          collected,
          resource.service,
          this.#gateways.has(key) || this.#isAddressed(resource.service),
        );
      }
    }
    const gone = removed.filter((name) => this.#sent.delete(name));
    if (collected.size === 0 && gone.length === 0) return undefined;
    return { ...NOTHING, upserts: [...collected.values()], removed: gone };
  }

  /** Answers a question about `network/ip`. */
  lookup(key: string): Publication {
    const collected = new Map<string, AddressResource>();
    const isReset = this.#addresses.size >= this.#maxAddresses && !this.#addresses.has(key);
    if (isReset) {
      for (const set of [
        this.#addresses,
        this.#services,
        this.#expanded,
        this.#gateways,
        this.#sent,
      ])
        set.clear();
      for (const workload of this.#store.workloads()) {
        if (this.#isLocal(workload)) this.#addWorkload(collected, workload);
      }
    }
    const at = key.lastIndexOf('/');
    this.#addAddress(collected, key.slice(0, at), key.slice(at + 1));
    return { ...NOTHING, upserts: [...collected.values()], answers: [key], isReset };
  }

  /** Names that the control plane is no longer asked about. */
  forget(names: readonly string[]): Publication {
    const forgotten = names.filter((name) => this.#addresses.delete(name));
    return { ...NOTHING, forgotten };
  }

  #wantsWorkload(workload: Workload): boolean {
    return (
      this.#isLocal(workload) ||
      this.#sent.has(workload.uid) ||
      // A waypoint or gateway may be known by a name of its own, without a service.
      this.#gateways.has(`${workload.namespace}/${workload.hostname}`) ||
      workload.ips.some((ip) => this.#addresses.has(`${workload.network}/${ip}`)) ||
      Object.keys(workload.services).some((key) => this.#expanded.has(key))
    );
  }

  #wantsService(service: Service): boolean {
    const key = serviceKey(service);
    return this.#services.has(key) || this.#sent.has(key) || this.#isAddressed(service);
  }

  #isAddressed(service: Service): boolean {
    if (service.vips.some(({ network, ip }) => this.#addresses.has(`${network}/${ip}`)))
      return true;
    if (service.cidrVips.length === 0) return false;
    for (const key of this.#addresses) {
      const at = key.lastIndexOf('/');
      const found = this.#store.servicesAt(key.slice(0, at), key.slice(at + 1));
      if (found.includes(service)) return true;
    }
    return false;
  }

  #addAddress(collected: Map<string, AddressResource>, network: string, ip: string): void {
    const key = `${network}/${ip}`;
    if (this.#addresses.has(key)) return;
    this.#addresses.add(key);
    for (const service of this.#store.servicesAt(network, ip)) {
      this.#addService(collected, service, true);
    }
    for (const workload of this.#store.workloadsAt(network, ip)) {
      this.#addWorkload(collected, workload);
    }
  }

  #addService(collected: Map<string, AddressResource>, service: Service, expand: boolean): void {
    const key = serviceKey(service);
    const isNew = !collected.has(key);
    this.#services.add(key);
    this.#sent.add(key);
    collected.set(key, { kind: 'service', service });
    if (isNew || expand) {
      this.#addGateway(collected, service.waypoint);
      for (const { destination } of service.weightedWaypoints)
        this.#addGateway(collected, destination);
    }
    if (expand) this.#expand(collected, key);
  }

  #expand(collected: Map<string, AddressResource>, key: string): void {
    if (this.#expanded.has(key)) return;
    this.#expanded.add(key);
    for (const workload of this.#store.endpoints(key).values()) {
      this.#addWorkload(collected, workload);
    }
  }

  #addWorkload(collected: Map<string, AddressResource>, workload: Workload): void {
    if (collected.has(workload.uid)) return;
    this.#sent.add(workload.uid);
    collected.set(workload.uid, { kind: 'workload', workload });
    this.#addGateway(collected, workload.waypoint);
    this.#addGateway(collected, workload.networkGateway);
    // Inbound labels and hostname authorities need the records of its services, not their endpoints.
    for (const key of Object.keys(workload.services)) {
      if (this.#services.has(key)) continue;
      this.#services.add(key);
      const service = this.#store.service(key);
      if (service !== undefined) this.#addService(collected, service, false);
    }
  }

  #addGateway(collected: Map<string, AddressResource>, gateway: GatewayAddress | undefined): void {
    if (gateway === undefined) return;
    if (gateway.kind === 'address') {
      this.#addAddress(collected, gateway.network, gateway.ip);
      return;
    }
    const key = `${gateway.namespace}/${gateway.hostname}`;
    this.#services.add(key);
    this.#gateways.add(key);
    const service = this.#store.service(key);
    if (service !== undefined) {
      if (!this.#expanded.has(key)) this.#addService(collected, service, true);
      return;
    }
    const found = this.#store.findGateway(gateway);
    if (found?.kind === 'workload') this.#addWorkload(collected, found.workload);
  }
}
