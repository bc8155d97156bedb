// Cluster DNS: what a name of the cluster domain resolves to (the Kubernetes DNS specification 1.1: services,
// headless services, endpoints with a hostname, pods by address). Pure. Other names do not exist here.
import { isIP } from 'node:net';
import type { DnsAnswer, DnsRecord } from '../../common/dns/codec.ts';
import { objectKey, type EndpointSlice, type Service } from './objects.ts';

const TTL_SEC = 5;

/** Services and slices by `namespace/name` of the service. */
export interface DnsZone {
  readonly domain: string;
  readonly services: ReadonlyMap<string, Service>;
  readonly slices: ReadonlyMap<string, readonly EndpointSlice[]>;
}

/** Indexes what the API has. */
export function buildZone(
  domain: string,
  services: Iterable<Service>,
  slices: Iterable<EndpointSlice>,
): DnsZone {
  const byService = new Map<string, EndpointSlice[]>();
  for (const slice of slices) {
    const name = slice.metadata.labels?.['kubernetes.io/service-name'] ?? '';
    const key = `${slice.metadata.namespace ?? ''}/${name}`;
    byService.set(key, [...(byService.get(key) ?? []), slice]);
  }
  return {
    domain,
    services: new Map([...services].map((service) => [objectKey(service), service])),
    slices: byService,
  };
}

const NXDOMAIN: DnsAnswer = { code: 'NXDOMAIN', records: [], ttlSec: TTL_SEC };

function found(records: readonly DnsRecord[]): DnsAnswer {
  return { code: 'NOERROR', records, ttlSec: TTL_SEC };
}

function addressRecords(name: string, type: string, addresses: readonly string[]): DnsRecord[] {
  if (type !== 'A' && type !== 'AAAA') return [];
  const isV6 = type === 'AAAA';
  return addresses
    .filter((address) => address.includes(':') === isV6)
    .map((data) => ({ type, name, data }));
}

function headlessAddresses(zone: DnsZone, service: Service, hostname?: string): string[] {
  const all = service.spec.publishNotReadyAddresses === true;
  const endpoints = (zone.slices.get(objectKey(service)) ?? []).flatMap(
    ({ endpoints: list }) => list ?? [],
  );
  return endpoints
    .filter(({ conditions }) => all || conditions?.ready !== false)
    .filter((endpoint) => hostname === undefined || endpoint.hostname === hostname)
    .flatMap(({ addresses }) => addresses.slice(0, 1));
}

function resolveService(
  zone: DnsZone,
  labels: readonly string[],
  name: string,
  type: string,
): DnsAnswer {
  const [service, namespace] = labels.slice(-2);
  const object = zone.services.get(`${namespace ?? ''}/${service ?? ''}`);
  if (object === undefined || labels.length > 4) return NXDOMAIN;
  if (labels.length === 4) return resolvePort(object, labels, name, type, zone);
  const { clusterIP = '', externalName } = object.spec;
  if (labels.length === 3) {
    const addresses = headlessAddresses(zone, object, labels[0]);
    if (addresses.length === 0) return NXDOMAIN;
    return found(addressRecords(name, type, addresses));
  }
  if (object.spec.type === 'ExternalName') {
    return found([{ type: 'CNAME', name, data: externalName ?? '' }]);
  }
  const addresses =
    clusterIP === 'None' || clusterIP === ''
      ? headlessAddresses(zone, object)
      : (object.spec.clusterIPs ?? [clusterIP]);
  return found(addressRecords(name, type, addresses));
}

/** `_port._protocol.service.namespace`: the port of a service. */
function resolvePort(
  service: Service,
  labels: readonly string[],
  name: string,
  type: string,
  zone: DnsZone,
): DnsAnswer {
  const [port = '', protocol = ''] = labels;
  const match = service.spec.ports?.find(
    (entry) =>
      `_${entry.name ?? ''}` === port && `_${(entry.protocol ?? 'TCP').toLowerCase()}` === protocol,
  );
  if (match === undefined) return NXDOMAIN;
  const target = `${labels.slice(2).join('.')}.svc.${zone.domain}`;
  if (type !== 'SRV') return found([]);
  return found([{ type: 'SRV', name, data: { target, port: match.port } }]);
}

/** Answers one question. */
export function resolveName(zone: DnsZone, name: string, type: string): DnsAnswer {
  const suffix = `.${zone.domain}`;
  if (!name.endsWith(suffix)) return NXDOMAIN;
  const labels = name.slice(0, -suffix.length).split('.');
  const kind = labels.pop();
  if (kind === 'svc' && labels.length >= 2) return resolveService(zone, labels, name, type);
  const [dashed = ''] = labels;
  if (kind !== 'pod' || labels.length !== 2) return NXDOMAIN;
  const address = ['.', ':'].map((mark) => dashed.replaceAll('-', mark)).find((text) => isIP(text));
  return address === undefined ? NXDOMAIN : found(addressRecords(name, type, [address]));
}
