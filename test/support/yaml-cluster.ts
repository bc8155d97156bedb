// YAML manifests as the compiler's input, as if a cluster ran them: each Deployment is one pod, each Service gets an
// address, each Gateway of a waypoint class is ready.
import type { CompileInput, ConfigObject, Pod, Service } from '../../common/compile/types.ts';
import { readManifest } from '../../common/kube/manifest.ts';
import { MESH, makePod } from './kube-objects.ts';

interface Manifest extends ConfigObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

type ConfigField = Exclude<
  keyof CompileInput,
  'mesh' | 'pods' | 'services' | 'gateways' | 'networkPolicies'
>;

const FIELDS: Readonly<Record<string, ConfigField>> = {
  'Namespace v1': 'namespaces',
  'VirtualService networking.istio.io': 'virtualServices',
  'DestinationRule networking.istio.io': 'destinationRules',
  'ServiceEntry networking.istio.io': 'serviceEntries',
  'AuthorizationPolicy security.istio.io': 'authorizationPolicies',
  'PeerAuthentication security.istio.io': 'peerAuthentications',
  'HTTPRoute gateway.networking.k8s.io': 'httpRoutes',
};

/** All objects in a file, or in every file below a folder. */
export function readManifests(path: string, namespace = 'default'): ConfigObject[] {
  return readManifest(path, true).map(({ object }) => {
    const manifest = object as Manifest;
    return { ...manifest, metadata: { namespace, ...manifest.metadata } };
  });
}

/** The compiler's input for a set of objects. */
export function clusterOf(objects: readonly ConfigObject[]): CompileInput {
  const lists: Partial<Record<ConfigField, ConfigObject[]>> = {};
  for (const object of objects) {
    const group = object.apiVersion?.split('/')[0] ?? '';
    const field = FIELDS[`${object.kind ?? ''} ${group}`];
    if (field !== undefined) lists[field] = [...(lists[field] ?? []), object];
  }
  const pods = objects.filter(({ kind }) => kind === 'Deployment').map(podOf);
  const services = objects.filter(({ kind }) => kind === 'Service').map(addressed);
  const gateways = objects
    .filter(({ kind, apiVersion }) => kind === 'Gateway' && apiVersion?.includes('k8s.io'))
    .map(ready);
  return { mesh: MESH, ...lists, pods, services, gateways };
}

function podOf(deployment: ConfigObject, index: number): Pod {
  const { name = '', namespace = '' } = deployment.metadata ?? {};
  const { template } = deployment.spec as {
    template: { metadata: { labels: Record<string, string> }; spec: Pod['spec'] };
  };
  return makePod(`${name}-5d4-x${index}`, {
    namespace,
    ip: `10.244.0.${index + 1}`,
    labels: template.metadata.labels,
    spec: template.spec,
  });
}

function addressed(object: ConfigObject, index: number): Service {
  const service = object as Service;
  return { ...service, spec: { clusterIP: `10.96.0.${index + 1}`, ...service.spec } };
}

function ready(gateway: ConfigObject): ConfigObject {
  const { name = '', namespace = '' } = gateway.metadata ?? {};
  const value = `${name}.${namespace}.svc.cluster.local`;
  return { ...gateway, status: { addresses: [{ type: 'Hostname', value }] } };
}
