// The workloads and services a proxy knows, indexed for its decisions: by uid, by address, by service key, by
// virtual address, by local name. Inserting replaces; removing removes from every index.
import { isIpv6, matchesPrefix, parseIp } from './ip.ts';
import { serviceKey } from './model.ts';
import type { AddressResource, GatewayAddress, Service, Workload } from './model.ts';
import { ScopedIndex } from './scoped-index.ts';

/** An endpoint of a service. */
export type Endpoints = ReadonlyMap<string, Workload>;

interface CidrVip {
  readonly network: string;
  readonly prefix: Uint8Array;
  readonly length: number;
  readonly service: Service;
}

const NO_ENDPOINTS: Endpoints = new Map();
/** Hostnames are looked up in all namespaces at once. */
const ANY_SCOPE = '';

/** An in-memory index; all methods are synchronous. */
export class WorkloadStore {
  readonly #workloads = new Map<string, Workload>();
  readonly #services = new Map<string, Service>();
  /** By network and address. Host-network pods are left out: they share the node's address. */
  readonly #byIp = new ScopedIndex<Workload>(uidOf);
  /** By network and address. */
  readonly #byVip = new ScopedIndex<Service>(serviceKey);
  readonly #byHostname = new ScopedIndex<Service>(serviceKey);
  /** By namespace and hostname. */
  readonly #byWorkloadHostname = new ScopedIndex<Workload>(uidOf);
  /** Service key to its endpoints by workload uid. */
  readonly #endpoints = new Map<string, Map<string, Workload>>();
  /** By namespace and name. */
  readonly #byName = new ScopedIndex<Workload>(uidOf);
  #cidrVips: CidrVip[] = [];

  /** Inserts or replaces a resource. */
  upsert(resource: AddressResource): void {
    if (resource.kind === 'workload') this.upsertWorkload(resource.workload);
    else this.upsertService(resource.service);
  }

  upsertWorkload(workload: Workload): void {
    const old = this.#workloads.get(workload.uid);
    if (old !== undefined) this.#unindexWorkload(old);
    this.#workloads.set(workload.uid, workload);
    const { network, namespace, name, hostname } = workload;
    for (const ip of indexedIps(workload)) this.#byIp.put(network, ip, workload);
    for (const key of Object.keys(workload.services)) {
      const known = this.#endpoints.get(key);
      if (known === undefined) this.#endpoints.set(key, new Map([[workload.uid, workload]]));
      else known.set(workload.uid, workload);
    }
    this.#byName.put(namespace, name, workload);
    if (hostname !== '') this.#byWorkloadHostname.put(namespace, hostname, workload);
  }

  upsertService(service: Service): void {
    const key = serviceKey(service);
    const old = this.#services.get(key);
    if (old !== undefined) this.#unindexService(old);
    this.#services.set(key, service);
    for (const { network, ip } of service.vips) this.#byVip.put(network, ip, service);
    this.#byHostname.put(ANY_SCOPE, service.hostname, service);
    for (const { network, ip, length } of service.cidrVips) {
      const prefix = parseIp(ip);
      if (prefix !== undefined) this.#cidrVips.push({ network, prefix, length, service });
    }
  }

  /** By resource name: a workload uid, or `namespace/hostname` of a service. */
  find(name: string): AddressResource | undefined {
    const workload = this.#workloads.get(name);
    if (workload !== undefined) return { kind: 'workload', workload };
    const service = this.#services.get(name);
    return service && { kind: 'service', service };
  }

  /** Removes by resource name. Returns what went. */
  remove(name: string): AddressResource | undefined {
    const found = this.find(name);
    if (found?.kind === 'workload') {
      this.#workloads.delete(name);
      this.#unindexWorkload(found.workload);
    } else if (found !== undefined) {
      this.#services.delete(name);
      this.#unindexService(found.service);
    }
    return found;
  }

  /** Forgets everything. */
  clear(): void {
    for (const index of [this.#byIp, this.#byVip, this.#byHostname, this.#byWorkloadHostname])
      index.clear();
    for (const index of [this.#workloads, this.#services, this.#endpoints, this.#byName])
      index.clear();
    this.#cidrVips = [];
  }

  workload(uid: string): Workload | undefined {
    return this.#workloads.get(uid);
  }

  service(key: string): Service | undefined {
    return this.#services.get(key);
  }

  workloads(): IterableIterator<Workload> {
    return this.#workloads.values();
  }

  services(): IterableIterator<Service> {
    return this.#services.values();
  }

  /** The workload of a pod; the service account tells apart a pod that was replaced under its name. */
  findLocal(namespace: string, name: string, serviceAccount: string): Workload | undefined {
    for (const workload of this.#byName.get(namespace, name)) {
      if (workload.serviceAccount === serviceAccount) return workload;
    }
    return undefined;
  }

  /** The workload at an address. Of several, pods before others and HBONE before TCP. */
  findWorkload(network: string, ip: string): Workload | undefined {
    let best: Workload | undefined;
    for (const workload of this.#byIp.get(network, ip)) {
      if (best === undefined || rankOf(workload) >= rankOf(best)) best = workload;
    }
    return best;
  }

  /**
   * The service at a virtual address as seen from a namespace: exact addresses first, then the longest prefix.
   * Without a namespace visibility is not enforced.
   */
  findServiceByVip(network: string, ip: string, clientNamespace?: string): Service | undefined {
    const found = pickService(this.#byVip.get(network, ip), clientNamespace);
    return found ?? this.#findByCidr(network, ip, clientNamespace);
  }

  /** All services at an address, exact and by prefix, visible or not. */
  servicesAt(network: string, ip: string): Service[] {
    const found = [...this.#byVip.get(network, ip)];
    const address = this.#cidrVips.length === 0 ? undefined : parseIp(ip);
    if (address === undefined) return found;
    for (const { network: own, prefix, length, service } of this.#cidrVips) {
      if (own === network && matchesPrefix(address, prefix, length)) found.push(service);
    }
    return found;
  }

  /** All workloads at an address. */
  workloadsAt(network: string, ip: string): Workload[] {
    return [...this.#byIp.get(network, ip)];
  }

  /** The service of a hostname as seen from a namespace. */
  findServiceByHostname(hostname: string, clientNamespace?: string): Service | undefined {
    return pickService(this.#byHostname.get(ANY_SCOPE, hostname), clientNamespace);
  }

  /** All services with a hostname, visible or not. */
  servicesByHostname(hostname: string): Iterable<Service> {
    return this.#byHostname.get(ANY_SCOPE, hostname);
  }

  /** Where a waypoint or gateway reference leads: a service, or one workload. */
  findGateway(gateway: GatewayAddress): AddressResource | undefined {
    if (gateway.kind === 'hostname') {
      const { namespace, hostname } = gateway;
      const service = this.#services.get(serviceKey(gateway));
      if (service !== undefined) return { kind: 'service', service };
      for (const workload of this.#byWorkloadHostname.get(namespace, hostname)) {
        return { kind: 'workload', workload };
      }
      return undefined;
    }
    const service = this.findServiceByVip(gateway.network, gateway.ip);
    if (service !== undefined) return { kind: 'service', service };
    const workload = this.findWorkload(gateway.network, gateway.ip);
    return workload && { kind: 'workload', workload };
  }

  /** All endpoints of a service, healthy or not. */
  endpoints(key: string): Endpoints {
    return this.#endpoints.get(key) ?? NO_ENDPOINTS;
  }

  /** Services that workloads belong to and that have not come. */
  *awaitedServices(): Generator<string> {
    for (const key of this.#endpoints.keys()) if (!this.#services.has(key)) yield key;
  }

  #findByCidr(network: string, ip: string, clientNamespace?: string): Service | undefined {
    if (this.#cidrVips.length === 0) return undefined;
    const address = parseIp(ip);
    if (address === undefined) return undefined;
    let best: CidrVip | undefined;
    for (const vip of this.#cidrVips) {
      if (vip.network !== network || !matchesPrefix(address, vip.prefix, vip.length)) continue;
      if (!isVisible(vip.service, clientNamespace)) continue;
      if (best === undefined || isBetterCidr(vip, best, clientNamespace)) best = vip;
    }
    return best?.service;
  }

  #unindexWorkload(workload: Workload): void {
    const { uid, network, namespace, name, hostname } = workload;
    for (const ip of indexedIps(workload)) this.#byIp.drop(network, ip, workload);
    for (const key of Object.keys(workload.services)) {
      const known = this.#endpoints.get(key);
      known?.delete(uid);
      if (known?.size === 0) this.#endpoints.delete(key);
    }
    this.#byName.drop(namespace, name, workload);
    if (hostname !== '') this.#byWorkloadHostname.drop(namespace, hostname, workload);
  }

  #unindexService(service: Service): void {
    for (const { network, ip } of service.vips) this.#byVip.drop(network, ip, service);
    this.#byHostname.drop(ANY_SCOPE, service.hostname, service);
    if (service.cidrVips.length > 0) {
      this.#cidrVips = this.#cidrVips.filter((vip) => vip.service !== service);
    }
  }
}

function uidOf(workload: Workload): string {
  return workload.uid;
}

function indexedIps(workload: Workload): readonly string[] {
  return workload.isHostNetwork ? [] : workload.ips;
}

function rankOf(workload: Workload): number {
  return (workload.uid.includes('//Pod/') ? 2 : 0) + (workload.protocol === 'HBONE' ? 1 : 0);
}

/** Whether clients of a namespace may know the service; without a namespace it is not enforced. */
export function isVisible(service: Service, clientNamespace: string | undefined): boolean {
  if (clientNamespace === undefined || service.visibility === 'PUBLIC') return true;
  return service.namespace === clientNamespace;
}

function pickService(
  services: Iterable<Service>,
  clientNamespace: string | undefined,
): Service | undefined {
  let first: Service | undefined;
  let canonical: Service | undefined;
  for (const service of services) {
    if (!isVisible(service, clientNamespace)) continue;
    if (service.namespace === clientNamespace) return service;
    if (service.isCanonical) canonical ??= service;
    first ??= service;
  }
  return canonical ?? first;
}

function isBetterCidr(vip: CidrVip, best: CidrVip, clientNamespace: string | undefined): boolean {
  const own = (entry: CidrVip): number => (entry.service.namespace === clientNamespace ? 1 : 0);
  if (own(vip) !== own(best)) return own(vip) > own(best);
  if (vip.length !== best.length) return vip.length > best.length;
  return vip.service.isCanonical && !best.service.isCanonical;
}

/** The family filter of a service's addresses. */
export function allowsFamily(families: Service['ipFamilies'], ip: string): boolean {
  if (families === 'IPV4_ONLY') return !isIpv6(ip);
  if (families === 'IPV6_ONLY') return isIpv6(ip);
  return true;
}
