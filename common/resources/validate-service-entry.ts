// Istio's validation rules for the parts of ServiceEntry that are served.
import { parseIp } from '../workload/ip.ts';
import {
  ServiceEntry_Resolution,
  type ServiceEntry,
  type WorkloadEntry,
} from './gen/service_entry_pb.ts';
import { isValidHost } from './host-name.ts';
import type { Problems } from './problem.ts';

/** Checks a ServiceEntry's spec. */
export function validateServiceEntry(spec: ServiceEntry, problems: Problems): void {
  problems.at('hosts').check(spec.hosts.length > 0, 'at least one host is needed');
  spec.hosts.forEach((host, index) => {
    const at = problems.at('hosts', index);
    at.check(isValidHost(host) && host !== '*', `${JSON.stringify(host)} is not a host name`);
  });
  spec.addresses.forEach((address, index) => {
    const ip = address.split('/')[0] ?? '';
    const at = problems.at('addresses', index);
    at.check(parseIp(ip) !== undefined, `${JSON.stringify(address)} is not an address`);
  });
  validatePorts(spec, problems);
  validateEndpoints(spec, problems);
}

function validatePorts(spec: ServiceEntry, problems: Problems): void {
  problems.at('ports').check(spec.ports.length > 0, 'at least one port is needed');
  const seen = new Set<number>();
  spec.ports.forEach((port, index) => {
    const at = problems.at('ports', index, 'number');
    at.check(port.number >= 1 && port.number <= 65535, `${port.number} is not a port`);
    at.check(!seen.has(port.number), `port ${port.number} is listed twice`);
    seen.add(port.number);
  });
}

function validateEndpoints(spec: ServiceEntry, problems: Problems): void {
  const { resolution, endpoints, workloadSelector } = spec;
  const at = problems.at('endpoints');
  const isSelecting = workloadSelector !== undefined;
  at.check(!isSelecting || endpoints.length === 0, 'and workloadSelector are both set');
  if (resolution === ServiceEntry_Resolution.DNS_ROUND_ROBIN)
    at.check(endpoints.length <= 1, 'resolution DNS_ROUND_ROBIN takes at most one endpoint');
  if (resolution === ServiceEntry_Resolution.NONE) {
    at.check(endpoints.length === 0, 'resolution NONE takes no endpoints');
  }
  if (resolution !== ServiceEntry_Resolution.STATIC) return;
  at.check(isSelecting || endpoints.length > 0, 'resolution STATIC needs endpoints');
  endpoints.forEach((endpoint, index) => {
    const isIp = parseIp(endpoint.address) !== undefined;
    at.at(index, 'address').check(isIp, `${JSON.stringify(endpoint.address)} is not an IP address`);
  });
}

/** Checks a WorkloadEntry's spec. */
export function validateWorkloadEntry(spec: WorkloadEntry, problems: Problems): void {
  const { address, ports } = spec;
  const isUsable = parseIp(address) !== undefined || isValidHost(address);
  problems.at('address').check(isUsable, `${JSON.stringify(address)} is no address and no name`);
  for (const [name, port] of Object.entries(ports)) {
    const isPort = port >= 1 && port <= 65535;
    problems.at('ports', name).check(isPort, `${port} is not a port`);
  }
}
