// Services: defaults, cluster address and node ports, and the checks of ports and addresses.
import { dict, dicts, list, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import type { FieldProblem } from '../status-error.ts';
import { embeddedIpv4, serviceIpv6 } from '../../ipv6.ts';
import { allocateNodePort } from './ip-allocator.ts';
import type { IpAllocator } from './ip-allocator.ts';
import { required, unsupported, wrong } from './strategy.ts';
import type { Strategy } from './strategy.ts';

const TYPES = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const FAMILIES = ['IPv4', 'IPv6'];
const POLICIES = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];

const takesNodePort = (spec: Dict): boolean =>
  spec['type'] === 'NodePort' || spec['type'] === 'LoadBalancer';

function defaultPorts(spec: Dict): void {
  for (const port of dicts(spec['ports'])) {
    port['protocol'] ??= 'TCP';
    port['targetPort'] ??= port['port'];
    if (!takesNodePort(spec)) Reflect.deleteProperty(port, 'nodePort');
  }
}

function defaultSpec(spec: Dict): void {
  spec['type'] ??= 'ClusterIP';
  spec['sessionAffinity'] ??= 'None';
  if (spec['sessionAffinity'] === 'ClientIP') {
    spec['sessionAffinityConfig'] ??= { clientIP: { timeoutSeconds: 10_800 } };
  }
  defaultPorts(spec);
  if (spec['type'] === 'ExternalName') return;
  spec['internalTrafficPolicy'] ??= 'Cluster';
  defaultFamilies(spec);
  if (takesNodePort(spec)) spec['externalTrafficPolicy'] ??= 'Cluster';
  if (spec['type'] === 'LoadBalancer') spec['allocateLoadBalancerNodePorts'] ??= true;
}

const familyOf = (address: string): string => (address.includes(':') ? 'IPv6' : 'IPv4');

/** Families in the order wanted; a second one is added where the policy asks for both. */
function defaultFamilies(spec: Dict): void {
  const chosen = [text(spec['clusterIP'])].filter((address) => /[.:]/.test(address));
  const given = list(spec['ipFamilies']).map(text);
  spec['ipFamilyPolicy'] ??= given.length > 1 ? 'RequireDualStack' : 'SingleStack';
  const [first = 'IPv4'] = given.length > 0 ? given : chosen.map(familyOf);
  const second = first === 'IPv4' ? 'IPv6' : 'IPv4';
  spec['ipFamilies'] = spec['ipFamilyPolicy'] === 'SingleStack' ? [first] : [first, second];
}

function validateFamilies(spec: Dict): FieldProblem[] {
  if (spec['type'] === 'ExternalName') return [];
  const problems: FieldProblem[] = [];
  const policy = spec['ipFamilyPolicy'];
  if (!POLICIES.includes(text(policy))) {
    problems.push(unsupported('spec.ipFamilyPolicy', policy, POLICIES));
  }
  for (const [index, family] of list(spec['ipFamilies']).entries()) {
    if (!FAMILIES.includes(text(family))) {
      problems.push(unsupported(`spec.ipFamilies[${index}]`, family, FAMILIES));
    }
  }
  return problems;
}

function validatePorts(spec: Dict): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const ports = dicts(spec['ports']);
  const isHeadless = spec['clusterIP'] === 'None' || spec['type'] === 'ExternalName';
  if (ports.length === 0 && !isHeadless) problems.push(required('spec.ports'));
  const names = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const at = `spec.ports[${index}]`;
    const name = text(port['name']);
    if (name === '' && ports.length > 1) problems.push(required(`${at}.name`));
    if (name !== '' && names.has(name)) {
      problems.push({
        reason: 'FieldValueInvalid',
        field: `${at}.name`,
        message: `Duplicate value: ${JSON.stringify(name)}`,
      });
    }
    names.add(name);
    const value = Number(port['port']);
    if (!(Number.isInteger(value) && value >= 1 && value <= 65_535)) {
      problems.push(
        wrong(`${at}.port`, port['port'] ?? 0, 'must be between 1 and 65535, inclusive'),
      );
    }
    if (!PROTOCOLS.includes(text(port['protocol']))) {
      problems.push(unsupported(`${at}.protocol`, port['protocol'], PROTOCOLS));
    }
  }
  return problems;
}

type Others = () => Iterable<KubeObject>;

interface Taken {
  readonly ips: Set<string>;
  readonly ports: Set<number>;
}

function takenByOthers(addresses: IpAllocator, others: Others, self: KubeObject): Taken {
  const ips = new Set<string>([addresses.at(1), addresses.at(10)]);
  const ports = new Set<number>();
  for (const other of others()) {
    if (other.metadata.uid === self.metadata.uid) continue;
    const spec = dict(other['spec']);
    ips.add(embeddedIpv4(text(spec['clusterIP'])) ?? '');
    for (const port of dicts(spec['ports'])) ports.add(Number(port['nodePort'] ?? 0));
  }
  return { ips, ports };
}

function allocate(
  addresses: IpAllocator,
  taken: Taken,
  spec: Dict,
  before: Dict | undefined,
): void {
  if (spec['type'] === 'ExternalName') return;
  spec['clusterIP'] ??= '';
  if (spec['clusterIP'] === '') {
    spec['clusterIP'] = text(before?.['clusterIP']) || addresses.allocate(taken.ips);
  }
  const ipv4 = embeddedIpv4(text(spec['clusterIP']));
  if (ipv4 === undefined) spec['clusterIPs'] = [spec['clusterIP']];
  else {
    const families = list(spec['ipFamilies']);
    spec['clusterIPs'] = families.map((family) => (family === 'IPv6' ? serviceIpv6(ipv4) : ipv4));
    spec['clusterIP'] = list(spec['clusterIPs'])[0];
  }
  if (!takesNodePort(spec) || spec['allocateLoadBalancerNodePorts'] === false) return;
  for (const port of dicts(spec['ports'])) {
    const kept = dicts(before?.['ports']).find(
      (old) => old['port'] === port['port'] && old['protocol'] === port['protocol'],
    );
    port['nodePort'] ??= kept?.['nodePort'] ?? allocateNodePort(taken.ports);
    taken.ports.add(Number(port['nodePort']));
  }
}

/** Problems of an address the user chose. `kubernetes` and the cluster DNS ask for theirs. */
function validateAddress(
  addresses: IpAllocator,
  others: Others,
  object: KubeObject,
  address: string,
): FieldProblem[] {
  const ipv4 = embeddedIpv4(address);
  if (ipv4 === undefined || !addresses.holds(ipv4)) {
    return [wrong('spec.clusterIPs', [address], 'the provided IP is not in the valid range')];
  }
  for (const other of others()) {
    const isOther = other.metadata.uid !== object.metadata.uid;
    if (isOther && embeddedIpv4(text(dict(other['spec'])['clusterIP'])) === ipv4) {
      return [wrong('spec.clusterIPs', [address], 'provided IP is already allocated')];
    }
  }
  return [];
}

/** The strategy of services; `others` yields the stored ones. */
export function serviceStrategy(addresses: IpAllocator, others: Others): Strategy {
  return {
    prepare(object, before) {
      const spec = dict((object['spec'] ??= {}));
      defaultSpec(spec);
      const taken = takenByOthers(addresses, others, object);
      allocate(addresses, taken, spec, before === undefined ? undefined : dict(before['spec']));
    },
    validate(object, before) {
      const spec = dict(object['spec']);
      const problems = [...validatePorts(spec), ...validateFamilies(spec)];
      if (!TYPES.includes(text(spec['type']))) {
        problems.push(unsupported('spec.type', spec['type'], TYPES));
      }
      const address = text(spec['clusterIP']);
      const was = text(dict(before?.['spec'])['clusterIP']);
      if (was !== '' && was !== address && address !== '') {
        problems.push(wrong('spec.clusterIP', list(spec['clusterIPs']), 'field is immutable'));
      } else if (was === '' && address !== '' && address !== 'None') {
        problems.push(...validateAddress(addresses, others, object, address));
      }
      return problems;
    },
    initialStatus: () => ({ loadBalancer: {} }),
  };
}
