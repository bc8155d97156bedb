// Small Kubernetes, Istio and Gateway API objects for tests of the compiler.
import type {
  CompileInput,
  ConfigObject,
  MeshSettings,
  ObjectMeta,
  Pod,
  Service,
  ServicePort,
  StringMap,
} from '../../common/compile/types.ts';

export const MESH: MeshSettings = {
  trustDomain: 'cluster.local',
  domain: 'cluster.local',
  clusterId: 'Kubernetes',
  network: '',
  rootNamespace: 'istio-system',
};

export interface PodOptions {
  readonly namespace?: string;
  readonly ip?: string;
  readonly labels?: StringMap;
  readonly annotations?: StringMap;
  readonly meta?: Partial<ObjectMeta>;
  readonly spec?: Pod['spec'];
  readonly isReady?: boolean;
}

/** A running pod on node-a, captured unless the annotations say otherwise. */
export function makePod(name: string, options: PodOptions = {}): Pod {
  const { namespace = 'app', ip = '10.0.0.1', labels = {}, isReady = true } = options;
  const annotations = options.annotations ?? { 'ambient.istio.io/redirection': 'enabled' };
  return {
    metadata: { name, namespace, labels, annotations, ...options.meta },
    spec: { nodeName: 'node-a', serviceAccountName: 'default', ...options.spec },
    status: {
      phase: 'Running',
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
    },
  };
}

export interface ServiceOptions {
  readonly namespace?: string;
  readonly ip?: string;
  readonly labels?: StringMap;
  readonly annotations?: StringMap;
  readonly ports?: readonly ServicePort[];
  readonly spec?: Service['spec'];
}

/** A ClusterIP service with an HTTP port 80 that selects `app: <name>`. */
export function makeService(name: string, options: ServiceOptions = {}): Service {
  const { namespace = 'app', ip = '10.96.0.1', labels = {}, annotations = {} } = options;
  return {
    metadata: { name, namespace, labels, annotations },
    spec: {
      clusterIP: ip,
      selector: { app: name },
      ports: options.ports ?? [{ name: 'http', port: 80, targetPort: 8080 }],
      ...options.spec,
    },
  };
}

/** Any object of a config kind. */
export function makeConfig(
  name: string,
  spec: unknown,
  meta: Partial<ObjectMeta> = {},
): ConfigObject {
  return { metadata: { name, namespace: 'app', ...meta }, spec };
}

/** A waypoint Gateway that has its address. */
export function makeWaypoint(
  name = 'waypoint',
  options: {
    readonly namespace?: string;
    readonly labels?: StringMap;
    readonly className?: string;
    readonly listener?: object;
    readonly isReady?: boolean;
  } = {},
): ConfigObject {
  const { namespace = 'app', labels = {}, className = 'istio-waypoint', isReady = true } = options;
  const listener = { name: 'mesh', port: 15008, protocol: 'HBONE', ...options.listener };
  const host = `${name}.${namespace}.svc.cluster.local`;
  return {
    metadata: { name, namespace, labels },
    spec: { gatewayClassName: className, listeners: [listener] },
    status: isReady ? { addresses: [{ type: 'Hostname', value: host }] } : {},
  };
}

/** Namespace `app` whose services use `waypoint`, and services reviews (two versions) and ratings. */
export function meshWithWaypoint(extra: Partial<CompileInput> = {}): CompileInput {
  const version = (name: string, app: string, v: string, ip: string): Pod =>
    makePod(name, { ip, labels: { app, version: v } });
  return {
    mesh: MESH,
    namespaces: [{ metadata: { name: 'app', labels: { 'istio.io/use-waypoint': 'waypoint' } } }],
    gateways: [makeWaypoint()],
    pods: [
      version('reviews-v1', 'reviews', 'v1', '10.0.0.1'),
      version('reviews-v2', 'reviews', 'v2', '10.0.0.2'),
      version('ratings-v1', 'ratings', 'v1', '10.0.0.3'),
    ],
    services: [
      makeService('reviews', { ip: '10.96.0.1' }),
      makeService('ratings', { ip: '10.96.0.2' }),
    ],
    ...extra,
  };
}
