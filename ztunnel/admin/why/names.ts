// What `src` and `dst` of /debug/why mean: a pod by `namespace/name` or address, a destination by address, pod or host
// name, each with a port. Pure; the text of what is wrong is thrown as `why_query`.
import { isIP } from 'node:net';
import { MeshError } from '../../../common/errors.ts';
import { normalizeIp, splitHostPort } from '../../../common/workload/ip.ts';
import { serviceKey } from '../../../common/workload/model.ts';
import type { Service, Workload } from '../../../common/workload/model.ts';
import type { WorkloadStore } from '../../../common/workload/store.ts';

/** Who connects: a workload, or only an address. */
export interface WhySource {
  readonly workload: Workload | undefined;
  readonly ip: string;
}

/** What is dialled. */
export interface WhyDestination {
  readonly ip: string;
  readonly port: number;
  /** How a name became this address; undefined for an address. */
  readonly note: string | undefined;
}

/** Finds the source. */
export function findSource(store: WorkloadStore, network: string, text: string): WhySource {
  const ip = normalizeIp(text);
  if (ip !== undefined) return { workload: store.findWorkload(network, ip), ip };
  const workload = store.workload(text) ?? findPod(store, text);
  if (workload === undefined) {
    throw queryError(`src: no workload "${text}"; write namespace/name or an address`);
  }
  return { workload, ip: workload.ips[0] ?? '' };
}

/** Finds the destination as the source would see it. */
export function findDestination(
  store: WorkloadStore,
  source: Workload | undefined,
  text: string,
): WhyDestination {
  const target = splitHostPort(text);
  if (target === undefined) throw queryError(`dst: "${text}" is not host:port`);
  const { host, port } = target;
  if (port < 1 || port > 65_535) throw queryError(`dst: ${port} is not a port`);
  if (isIP(host) !== 0) return { ip: normalizeIp(host) ?? host, port, note: undefined };
  const pod = host.includes('/') ? (store.workload(host) ?? findPod(store, host)) : undefined;
  if (pod !== undefined) {
    const ip = addressOf(pod);
    if (ip === undefined) throw queryError(`dst: ${host} has no address`);
    return { ip, port, note: `${host} is the pod at ${ip}` };
  }
  const service = findService(store, source, host);
  if (service === undefined) throw queryError(`dst: no pod or service "${host}"`);
  return { port, ...addressOfService(store, service) };
}

/** A host name in full, or as an application in the cluster may shorten it; `namespace/name` is a service too. */
function findService(
  store: WorkloadStore,
  source: Workload | undefined,
  host: string,
): Service | undefined {
  const namespace = source?.namespace ?? 'default';
  const [first = '', second] = host.split(/[./]/);
  const names = [host, `${host}.svc.cluster.local`, `${host}.cluster.local`];
  if (second === undefined) names.push(`${first}.${namespace}.svc.cluster.local`);
  else if (host.includes('/')) names.push(`${second}.${first}.svc.cluster.local`);
  for (const name of names) {
    const service = store.findServiceByHostname(name, source?.namespace);
    if (service !== undefined) return service;
  }
  return undefined;
}

function addressOfService(
  store: WorkloadStore,
  service: Service,
): { readonly ip: string; readonly note: string } {
  const [vip] = service.vips;
  if (vip !== undefined) {
    return { ip: vip.ip, note: `${service.hostname} has the virtual address ${vip.ip}` };
  }
  // Headless: an application gets its endpoints' addresses from DNS.
  for (const workload of store.endpoints(serviceKey(service)).values()) {
    const ip = addressOf(workload);
    if (ip === undefined) continue;
    return { ip, note: `${service.hostname} is headless; ${ip} is the address of one of its pods` };
  }
  throw queryError(`dst: ${service.hostname} has neither a virtual address nor endpoints`);
}

function addressOf(workload: Workload): string | undefined {
  return workload.ips[0];
}

/** By the pod's name, or the name of what owns it. */
function findPod(store: WorkloadStore, text: string): Workload | undefined {
  const [namespace = '', name = ''] = text.split('/');
  let byOwner: Workload | undefined;
  for (const workload of store.workloads()) {
    if (workload.namespace !== namespace) continue;
    if (workload.name === name) return workload;
    if (workload.workloadName === name) byOwner ??= workload;
  }
  return byOwner;
}

function queryError(text: string): MeshError {
  return new MeshError('why_query', text);
}
