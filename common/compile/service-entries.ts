// ServiceEntry hosts as services: resolution STATIC, NONE and DNS, with inline endpoints or selected workloads. Virtual addresses are those of
// the spec, else those allocated in the status. Wildcard hosts need per-request resolution, which is not served.
import {
  ServiceEntrySchema,
  ServiceEntry_Resolution,
  type ServiceEntry,
} from '../resources/gen/service_entry_pb.ts';
import { resolveHost } from '../resources/host-name.ts';
import { byAge, readResource, type Resource } from '../resources/resource.ts';
import { validateServiceEntry } from '../resources/validate-service-entry.ts';
import { autoAddressHosts, readStatusAddresses, type AutoAddress } from './auto-addresses.ts';
import type { ServiceEntity, ServicePortEntity, StaticEndpoint } from './entities.ts';
import { namedProtocol } from './port-protocol.ts';
import type { ConfigObject, MeshSettings } from './types.ts';
import type { VerdictLog } from './verdict-log.ts';

/** An entry with the addresses that were allocated for its hosts. */
interface EntryObject extends Resource<ServiceEntry> {
  readonly allocated: readonly AutoAddress[];
}

/** Every served host of every ServiceEntry, oldest first. */
export function readServiceEntries(
  objects: readonly ConfigObject[],
  mesh: MeshSettings,
  log: VerdictLog,
): ServiceEntity[] {
  const entries: EntryObject[] = [];
  for (const object of objects) {
    log.guard('ServiceEntry', object, () => {
      const entry = readResource('ServiceEntry', ServiceEntrySchema, object, validateServiceEntry);
      if (log.admit(entry)) entries.push({ ...entry, allocated: readStatusAddresses(object) });
    });
  }
  return entries.sort(byAge).flatMap((entry) => toServices(entry, mesh, log));
}

function toServices(entry: EntryObject, mesh: MeshSettings, log: VerdictLog): ServiceEntity[] {
  const { spec } = entry;
  if (spec.resolution === ServiceEntry_Resolution.DYNAMIC_DNS) {
    const message =
      'spec.resolution: names are not resolved for each request; no host of this entry is served';
    log.nowhere(entry, 'spec.resolution', 'UnsupportedValue', message);
    return [];
  }
  const allocated = autoAddressHosts(spec, entry.labels);
  if (spec.addresses.length === 0 && allocated.length === 0) {
    const message =
      'spec.addresses: no virtual address is allocated: only clients that dial an endpoint are affected';
    log.nowhere(entry, 'spec.addresses', 'UnsupportedValue', message);
  }
  const services = spec.hosts.flatMap((host, index) => {
    if (host.includes('*')) {
      const message = `spec.hosts[${index}]: wildcard host ${host} is not served`;
      log.nowhere(entry, `spec.hosts[${index}]`, 'UnsupportedValue', message);
      return [];
    }
    const addresses = allocated.includes(host)
      ? entry.allocated.filter((one) => one.host === host).map(({ value }) => value)
      : spec.addresses;
    return [toService(entry, resolveHost(host, entry.namespace, mesh.domain), addresses)];
  });
  if (services.length > 0) {
    const message = 'node proxies know its hosts and endpoints';
    log.add(entry, { field: 'spec', enforcedAt: 'node', reason: 'Accepted', message });
  }
  return services;
}

function toService(
  entry: EntryObject,
  hostname: string,
  addresses: readonly string[],
): ServiceEntity {
  const {
    spec,
    problems: _problems,
    isInvalid: _isInvalid,
    allocated: _allocated,
    ...meta
  } = entry;
  return {
    ...meta,
    hostname,
    key: `${meta.namespace}/${hostname}`,
    service: undefined,
    ports: spec.ports.map(toPort),
    selector: spec.workloadSelector?.labels ?? {},
    addresses,
    isPassthrough: spec.resolution === ServiceEntry_Resolution.NONE,
    subjectAltNames: spec.subjectAltNames,
    staticEndpoints: staticEndpoints(spec, hostname),
    isWaypoint: false,
  };
}

function toPort(port: ServiceEntry['ports'][number]): ServicePortEntity {
  return {
    name: port.name,
    port: port.number,
    targetPort: port.targetPort === 0 ? undefined : port.targetPort,
    protocol: namedProtocol(port.protocol) ?? 'unknown',
  };
}

function staticEndpoints(spec: ServiceEntry, hostname: string): StaticEndpoint[] {
  const isDns =
    spec.resolution === ServiceEntry_Resolution.DNS ||
    spec.resolution === ServiceEntry_Resolution.DNS_ROUND_ROBIN;
  const isSelecting = spec.workloadSelector !== undefined;
  if (spec.endpoints.length > 0 || isSelecting || !isDns) return spec.endpoints;
  const none = { ports: {}, labels: {}, network: '', locality: '', weight: 0, serviceAccount: '' };
  return [{ address: hostname, ...none }];
}
