// Where an HTTPRoute sends traffic. An unknown backend keeps its weight and answers 500 for its share. References
// across namespaces need no grant from routes of the mesh.
import type { BackendObjectReference } from '../../resources/gen/gateway_api_pb.ts';
import { serviceHost } from '../../resources/host-name.ts';
import type { ServiceEntity } from '../entities.ts';
import { findService } from '../mesh-model.ts';
import type { VerdictReason } from '../types.ts';
import { NO_CLUSTER } from './destination.ts';
import type { RouteContext } from './route-context.ts';

type Backend = Pick<BackendObjectReference, 'group' | 'kind' | 'name' | 'namespace' | 'port'>;

/** The cluster of a backend; reports one that does not exist. */
export function backendCluster(
  context: RouteContext,
  backend: Backend | undefined,
  path: string,
): string {
  const refuse = (reason: VerdictReason, why: string): string => {
    const message = `${path}: ${why}; its share is answered with 500`;
    context.model.log.nowhere(context.source, path, reason, message);
    return NO_CLUSTER;
  };
  if (backend === undefined) return refuse('BackendNotFound', 'no backend is given');
  const kind = backend.kind ?? 'Service';
  const service = findBackend(context, backend, kind);
  if (service === 'unsupported') {
    return refuse('InvalidKind', `backends of kind ${kind} are not served`);
  }
  if (service === undefined) {
    return refuse('BackendNotFound', `there is no ${kind} ${backend.name}`);
  }
  const port = service.ports.find(
    (entry) => entry.port === backend.port && entry.protocol !== 'udp',
  );
  if (port === undefined) {
    return refuse('PortNotFound', `${kind} ${backend.name} has no port ${backend.port}`);
  }
  return context.clusters.refer(service, port) ?? NO_CLUSTER;
}

function findBackend(
  context: RouteContext,
  backend: Backend,
  kind: string,
): ServiceEntity | undefined | 'unsupported' {
  const { model, source } = context;
  if (kind === 'Service' && (backend.group === '' || backend.group === 'core')) {
    const namespace = backend.namespace === '' ? source.namespace : backend.namespace;
    return findService(model, serviceHost(backend.name, namespace, model.mesh.domain), namespace);
  }
  if (kind === 'Hostname' && backend.group === 'networking.istio.io') {
    return findService(model, backend.name, source.namespace);
  }
  return 'unsupported';
}
