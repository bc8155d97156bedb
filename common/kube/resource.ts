// Kinds of the Kubernetes API that the programs use, and the URL paths of their objects.

/** A resource type as the API names it. */
export interface ResourceKind {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly isNamespaced: boolean;
}

/** Metadata every object has. */
export interface KubeMeta {
  readonly name?: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
}

/** Points from an object to the one it is collected with. */
export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

/** Any object of the API. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: KubeMeta;
}

function define(
  group: string,
  version: string,
  plural: string,
  kind: string,
  isNamespaced = true,
): ResourceKind {
  return { group, version, plural, kind, isNamespaced };
}

const NETWORKING = 'networking.istio.io';
const SECURITY = 'security.istio.io';
const GATEWAY = 'gateway.networking.k8s.io';

/** The kinds, by a short name. */
export const KINDS = {
  pods: define('', 'v1', 'pods', 'Pod'),
  services: define('', 'v1', 'services', 'Service'),
  namespaces: define('', 'v1', 'namespaces', 'Namespace', false),
  nodes: define('', 'v1', 'nodes', 'Node', false),
  secrets: define('', 'v1', 'secrets', 'Secret'),
  configMaps: define('', 'v1', 'configmaps', 'ConfigMap'),
  serviceAccounts: define('', 'v1', 'serviceaccounts', 'ServiceAccount'),
  events: define('events.k8s.io', 'v1', 'events', 'Event'),
  deployments: define('apps', 'v1', 'deployments', 'Deployment'),
  daemonSets: define('apps', 'v1', 'daemonsets', 'DaemonSet'),
  leases: define('coordination.k8s.io', 'v1', 'leases', 'Lease'),
  networkPolicies: define('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy'),
  endpointSlices: define('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice'),
  tokenReviews: define('authentication.k8s.io', 'v1', 'tokenreviews', 'TokenReview', false),
  customResourceDefinitions: define(
    'apiextensions.k8s.io',
    'v1',
    'customresourcedefinitions',
    'CustomResourceDefinition',
    false,
  ),
  gateways: define(GATEWAY, 'v1', 'gateways', 'Gateway'),
  gatewayClasses: define(GATEWAY, 'v1', 'gatewayclasses', 'GatewayClass', false),
  httpRoutes: define(GATEWAY, 'v1', 'httproutes', 'HTTPRoute'),
  virtualServices: define(NETWORKING, 'v1', 'virtualservices', 'VirtualService'),
  destinationRules: define(NETWORKING, 'v1', 'destinationrules', 'DestinationRule'),
  serviceEntries: define(NETWORKING, 'v1', 'serviceentries', 'ServiceEntry'),
  workloadEntries: define(NETWORKING, 'v1', 'workloadentries', 'WorkloadEntry'),
  authorizationPolicies: define(SECURITY, 'v1', 'authorizationpolicies', 'AuthorizationPolicy'),
  peerAuthentications: define(SECURITY, 'v1', 'peerauthentications', 'PeerAuthentication'),
} as const;

/** `group/version`, or `v1` for the core group. */
export function apiVersionOf(kind: ResourceKind): string {
  return kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
}

/** Path of a collection; without a namespace, across all of them. */
export function collectionPath(kind: ResourceKind, namespace?: string): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  const scope =
    kind.isNamespaced && namespace !== undefined
      ? `/namespaces/${encodeURIComponent(namespace)}`
      : '';
  return `${root}${scope}/${kind.plural}`;
}

/** Path of an object, or of its subresource (`status`). */
export function objectPath(
  kind: ResourceKind,
  namespace: string | undefined,
  name: string,
  subresource?: string,
): string {
  const tail = subresource === undefined ? '' : `/${subresource}`;
  return `${collectionPath(kind, namespace)}/${encodeURIComponent(name)}${tail}`;
}

/** Key of an object in a store: `namespace/name`, or `name` without a namespace. */
export function keyOf(object: KubeObject): string {
  const { name = '', namespace } = object.metadata ?? {};
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}
