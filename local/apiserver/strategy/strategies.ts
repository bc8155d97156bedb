// The table of strategies: which kinds are defaulted, allocated for and checked when they are written.
import { BUCKETS } from '../registry/builtin.ts';
import { dict, isDict, text } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import type { Store } from '../storage/store.ts';
import { definitionStrategy } from './definition.ts';
import type { IpAllocator } from './ip-allocator.ts';
import { podStrategy } from './pod.ts';
import { serviceStrategy } from './service.ts';
import type { Strategy } from './strategy.ts';
import { wrong } from './strategy.ts';
import {
  daemonSetStrategy,
  deploymentStrategy,
  jobStrategy,
  replicaSetStrategy,
  statefulSetStrategy,
} from './workload.ts';

const namespaceStrategy: Strategy = {
  prepare(object, before) {
    object.metadata.labels = {
      ...object.metadata.labels,
      'kubernetes.io/metadata.name': object.metadata.name,
    };
    if (before === undefined) object['spec'] = { finalizers: ['kubernetes'] };
  },
  initialStatus: () => ({ phase: 'Active' }),
};

/** `stringData` is written into `data`, as the API server does. */
const secretStrategy: Strategy = {
  prepare(object) {
    object['type'] ??= 'Opaque';
    const plain = object['stringData'];
    if (!isDict(plain)) return;
    const data = { ...dict(object['data']) };
    for (const [name, value] of Object.entries(plain)) {
      data[name] = Buffer.from(text(value)).toString('base64');
    }
    object['data'] = data;
    Reflect.deleteProperty(object, 'stringData');
  },
  validate(object) {
    return Object.entries(dict(object['data'])).flatMap(([name, value]) =>
      typeof value === 'string' && /^[A-Za-z0-9+/]*={0,2}$/.test(value)
        ? []
        : [wrong(`data[${name}]`, '', 'illegal base64 data')],
    );
  },
};

const nodeStrategy: Strategy = {
  prepare(object) {
    const spec = dict((object['spec'] ??= {}));
    object['spec'] = spec;
  },
};

const statusOnly = (status: Record<string, unknown>): Strategy => ({ initialStatus: () => status });

/** Strategies by bucket. */
export function buildStrategies(
  store: Store,
  addresses: IpAllocator,
): ReadonlyMap<string, Strategy> {
  const account = (namespace: string, name: string): KubeObject | undefined =>
    store.get(BUCKETS.serviceAccounts, namespace, name);
  return new Map<string, Strategy>([
    [BUCKETS.namespaces, namespaceStrategy],
    [BUCKETS.pods, podStrategy(account)],
    [BUCKETS.services, serviceStrategy(addresses, () => store.values(BUCKETS.services))],
    [BUCKETS.secrets, secretStrategy],
    [BUCKETS.nodes, nodeStrategy],
    [BUCKETS.deployments, deploymentStrategy],
    [BUCKETS.replicaSets, replicaSetStrategy],
    [BUCKETS.daemonSets, daemonSetStrategy],
    [BUCKETS.statefulSets, statefulSetStrategy],
    [BUCKETS.jobs, jobStrategy],
    [BUCKETS.crds, definitionStrategy],
    ['networking.k8s.io/ingresses', statusOnly({ loadBalancer: {} })],
  ]);
}
