// Columns of built-in kinds. Those in `wide` are shown by `-o wide`; cells are in the order columns, then wide.
import { joinHostPort } from '../../../common/workload/ip.ts';
import { dict, dicts, field, list, number, scalarText, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { age, duration } from './age.ts';
import { podCells } from './pod-printer.ts';

export interface Printer {
  readonly columns: readonly string[];
  readonly wide: readonly string[];
  readonly cells: (object: KubeObject) => unknown[];
}

const NONE = '<none>';

const ageOf = (object: KubeObject): string => age(object.metadata.creationTimestamp);

const spec = (object: KubeObject): Dict => dict(object['spec']);
const status = (object: KubeObject): Dict => dict(object['status']);
const count = (value: unknown): number => number(value, 0);

/** `a=b,c=d` of a selector's matchLabels, or of a plain map. */
function labels(value: unknown): string {
  const map = dict(dict(value)['matchLabels'] ?? value);
  const pairs = Object.entries(map).map(([name, member]) => `${name}=${text(member)}`);
  return pairs.length === 0 ? NONE : pairs.join(',');
}

function containers(object: KubeObject, member: 'name' | 'image'): string {
  const found = dicts(field(object, 'spec', 'template', 'spec', 'containers'));
  return found.map((container) => text(container[member])).join(',');
}

function servicePorts(object: KubeObject): string {
  const ports = dicts(spec(object)['ports']).map((port) => {
    const node = port['nodePort'] === undefined ? '' : `:${count(port['nodePort'])}`;
    return `${count(port['port'])}${node}/${text(port['protocol'])}`;
  });
  return ports.length === 0 ? NONE : ports.join(',');
}

function externalIps(object: KubeObject): string {
  const of = spec(object);
  const given = list(of['externalIPs']).map(String);
  const ingress = dicts(field(object, 'status', 'loadBalancer', 'ingress'));
  const balanced = ingress.map((item) => text(item['ip']) || text(item['hostname']));
  if (of['type'] === 'ExternalName') return text(of['externalName']);
  const all = [...balanced, ...given];
  if (all.length > 0) return all.join(',');
  return of['type'] === 'LoadBalancer' ? '<pending>' : NONE;
}

function nodeStatus(object: KubeObject): string {
  const ready = dicts(status(object)['conditions']).find((item) => item['type'] === 'Ready');
  const words = [
    ready?.['status'] === 'True' ? 'Ready' : ready === undefined ? 'Unknown' : 'NotReady',
  ];
  if (spec(object)['unschedulable'] === true) words.push('SchedulingDisabled');
  return words.join(',');
}

function nodeRoles(object: KubeObject): string {
  const prefix = 'node-role.kubernetes.io/';
  const names = Object.keys(object.metadata.labels ?? {}).filter((name) => name.startsWith(prefix));
  return names.length === 0 ? NONE : names.map((name) => name.slice(prefix.length)).join(',');
}

function nodeAddress(object: KubeObject, type: string): string {
  const found = dicts(status(object)['addresses']).find((item) => item['type'] === type);
  return text(found?.['address']) || NONE;
}

function eventCells(object: KubeObject): unknown[] {
  const involved = dict(object['involvedObject'] ?? object['regarding']);
  const last = text(object['lastTimestamp']) || text(object['eventTime']);
  const source = text(field(object, 'source', 'component')) || text(object['reportingComponent']);
  const first = text(object['firstTimestamp']) || last;
  const place = text(involved['fieldPath']);
  return [
    last === '' ? ageOf(object) : age(last),
    text(object['type']),
    text(object['reason']),
    `${text(involved['kind']).toLowerCase()}/${text(involved['name'])}`,
    text(object['message'] ?? object['note']).trim(),
    place,
    source,
    first === '' ? ageOf(object) : age(first),
    number(object['count'] ?? object['deprecatedCount'], 1),
    object.metadata.name,
  ];
}

function slicePorts(object: KubeObject): string {
  const ports = dicts(object['ports']).map((port) => scalarText(port['port'] ?? '*'));
  return ports.length === 0 ? '<unset>' : ports.join(',');
}

function addresses(items: Dict[], member: string): string {
  const found = items.flatMap((item) => list(item[member]).map(String));
  if (found.length === 0) return '<unset>';
  const shown = found.slice(0, 3).join(',');
  return found.length > 3 ? `${shown} + ${found.length - 3} more...` : shown;
}

function endpointCell(object: KubeObject): string {
  const found = dicts(object['subsets']).flatMap((subset) =>
    dicts(subset['ports']).flatMap((port) =>
      dicts(subset['addresses']).map((item) => joinHostPort(text(item['ip']), count(port['port']))),
    ),
  );
  if (found.length === 0) return NONE;
  const shown = found.slice(0, 3).join(',');
  return found.length > 3 ? `${shown} + ${found.length - 3} more...` : shown;
}

function jobCells(object: KubeObject): unknown[] {
  const { startTime, completionTime, conditions } = status(object);
  const done = dicts(conditions).find((item) => item['status'] === 'True');
  const start = Date.parse(text(startTime));
  const end = completionTime === undefined ? Date.now() : Date.parse(text(completionTime));
  return [
    object.metadata.name,
    text(done?.['type']) || 'Running',
    `${count(status(object)['succeeded'])}/${number(spec(object)['completions'], 1)}`,
    Number.isNaN(start) ? '' : duration(end - start),
    ageOf(object),
  ];
}

/** By kind; a kind without an entry shows its name and age. */
export const PRINTERS: Readonly<Record<string, Printer>> = {
  Pod: {
    columns: ['Name', 'Ready', 'Status', 'Restarts', 'Age'],
    wide: ['IP', 'Node', 'Nominated Node', 'Readiness Gates'],
    cells: podCells,
  },
  Namespace: {
    columns: ['Name', 'Status', 'Age'],
    wide: [],
    cells: (object) => [object.metadata.name, text(status(object)['phase']), ageOf(object)],
  },
  Service: {
    columns: ['Name', 'Type', 'Cluster-IP', 'External-IP', 'Port(s)', 'Age'],
    wide: ['Selector'],
    cells: (object) => [
      object.metadata.name,
      text(spec(object)['type']),
      text(spec(object)['clusterIP']) || NONE,
      externalIps(object),
      servicePorts(object),
      ageOf(object),
      labels(spec(object)['selector']),
    ],
  },
  Deployment: {
    columns: ['Name', 'Ready', 'Up-to-date', 'Available', 'Age'],
    wide: ['Containers', 'Images', 'Selector'],
    cells: (object) => [
      object.metadata.name,
      `${count(status(object)['readyReplicas'])}/${number(spec(object)['replicas'], 1)}`,
      count(status(object)['updatedReplicas']),
      count(status(object)['availableReplicas']),
      ageOf(object),
      containers(object, 'name'),
      containers(object, 'image'),
      labels(spec(object)['selector']),
    ],
  },
  ReplicaSet: {
    columns: ['Name', 'Desired', 'Current', 'Ready', 'Age'],
    wide: ['Containers', 'Images', 'Selector'],
    cells: (object) => [
      object.metadata.name,
      number(spec(object)['replicas'], 1),
      count(status(object)['replicas']),
      count(status(object)['readyReplicas']),
      ageOf(object),
      containers(object, 'name'),
      containers(object, 'image'),
      labels(spec(object)['selector']),
    ],
  },
  StatefulSet: {
    columns: ['Name', 'Ready', 'Age'],
    wide: ['Containers', 'Images'],
    cells: (object) => [
      object.metadata.name,
      `${count(status(object)['readyReplicas'])}/${number(spec(object)['replicas'], 1)}`,
      ageOf(object),
      containers(object, 'name'),
      containers(object, 'image'),
    ],
  },
  DaemonSet: {
    columns: [
      'Name',
      'Desired',
      'Current',
      'Ready',
      'Up-to-date',
      'Available',
      'Node Selector',
      'Age',
    ],
    wide: ['Containers', 'Images', 'Selector'],
    cells: (object) => [
      object.metadata.name,
      count(status(object)['desiredNumberScheduled']),
      count(status(object)['currentNumberScheduled']),
      count(status(object)['numberReady']),
      count(status(object)['updatedNumberScheduled']),
      count(status(object)['numberAvailable']),
      labels(field(object, 'spec', 'template', 'spec', 'nodeSelector')),
      ageOf(object),
      containers(object, 'name'),
      containers(object, 'image'),
      labels(spec(object)['selector']),
    ],
  },
  Job: {
    columns: ['Name', 'Status', 'Completions', 'Duration', 'Age'],
    wide: [],
    cells: jobCells,
  },
  Node: {
    columns: ['Name', 'Status', 'Roles', 'Age', 'Version'],
    wide: ['Internal-IP', 'External-IP', 'OS-Image', 'Kernel-Version', 'Container-Runtime'],
    cells: (object) => {
      const info = dict(status(object)['nodeInfo']);
      return [
        object.metadata.name,
        nodeStatus(object),
        nodeRoles(object),
        ageOf(object),
        text(info['kubeletVersion']),
        nodeAddress(object, 'InternalIP'),
        nodeAddress(object, 'ExternalIP'),
        text(info['osImage']) || '<unknown>',
        text(info['kernelVersion']) || '<unknown>',
        text(info['containerRuntimeVersion']) || '<unknown>',
      ];
    },
  },
  ConfigMap: {
    columns: ['Name', 'Data', 'Age'],
    wide: [],
    cells: (object) => [
      object.metadata.name,
      Object.keys({ ...dict(object['data']), ...dict(object['binaryData']) }).length,
      ageOf(object),
    ],
  },
  Secret: {
    columns: ['Name', 'Type', 'Data', 'Age'],
    wide: [],
    cells: (object) => [
      object.metadata.name,
      text(object['type']),
      Object.keys(dict(object['data'])).length,
      ageOf(object),
    ],
  },
  ServiceAccount: {
    columns: ['Name', 'Secrets', 'Age'],
    wide: [],
    cells: (object) => [object.metadata.name, list(object['secrets']).length, ageOf(object)],
  },
  Event: {
    columns: ['Last Seen', 'Type', 'Reason', 'Object', 'Message'],
    wide: ['Subobject', 'Source', 'First Seen', 'Count', 'Name'],
    cells: eventCells,
  },
  Endpoints: {
    columns: ['Name', 'Endpoints', 'Age'],
    wide: [],
    cells: (object) => [object.metadata.name, endpointCell(object), ageOf(object)],
  },
  EndpointSlice: {
    columns: ['Name', 'AddressType', 'Ports', 'Endpoints', 'Age'],
    wide: [],
    cells: (object) => [
      object.metadata.name,
      text(object['addressType']),
      slicePorts(object),
      addresses(dicts(object['endpoints']), 'addresses'),
      ageOf(object),
    ],
  },
  Lease: {
    columns: ['Name', 'Holder', 'Age'],
    wide: [],
    cells: (object) => [object.metadata.name, text(spec(object)['holderIdentity']), ageOf(object)],
  },
  CustomResourceDefinition: {
    columns: ['Name', 'Created At'],
    wide: [],
    cells: (object) => [object.metadata.name, object.metadata.creationTimestamp],
  },
  PodDisruptionBudget: {
    columns: ['Name', 'Min Available', 'Max Unavailable', 'Allowed Disruptions', 'Age'],
    wide: [],
    cells: (object) => [
      object.metadata.name,
      scalarText(spec(object)['minAvailable'] ?? 'N/A'),
      scalarText(spec(object)['maxUnavailable'] ?? 'N/A'),
      count(status(object)['disruptionsAllowed']),
      ageOf(object),
    ],
  },
  NetworkPolicy: {
    columns: ['Name', 'Pod-Selector', 'Age'],
    wide: [],
    cells: (object) => [object.metadata.name, labels(spec(object)['podSelector']), ageOf(object)],
  },
};
