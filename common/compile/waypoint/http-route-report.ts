// What becomes of every parent of every HTTPRoute: bound to a service at a waypoint, or not and why.
import type { ParentReference } from '../../resources/gen/gateway_api_pb.ts';
import type { MeshModel } from '../mesh-model.ts';
import type { VerdictReason } from '../types.ts';
import type { Attachment } from '../waypoint-binding.ts';
import { isServiceParent, parentServiceKey, type HttpRouteResource } from './http-routes.ts';

/** Reports all parents. */
export function reportHttpRoutes(
  model: MeshModel,
  routes: readonly HttpRouteResource[],
  attachments: ReadonlyMap<string, Attachment>,
): void {
  const services = new Map(model.services.map((service) => [service.key, service]));
  for (const route of routes) {
    route.spec.parentRefs.forEach((parent, index) => {
      const path = `spec.parentRefs[${index}]`;
      const key = parentServiceKey(route, parent, model.mesh.domain);
      const attachment = attachments.get(key);
      const hasPort = (services.get(key)?.ports ?? []).some((port) => port.port === parent.port);
      const isKnown = services.has(key);
      const failure = obstacle(route, parent, { isKnown, hasPort, attachment });
      if (failure !== undefined) {
        model.log.nowhere(route, path, failure[0], `${path}: ${failure[1]}`);
        return;
      }
      const waypoint = attachment?.attached?.key ?? '';
      const message = `executed by waypoint ${waypoint} for service ${parent.name}`;
      const verdict = { field: path, enforcedAt: 'waypoint', reason: 'Accepted' } as const;
      model.log.add(route, { ...verdict, message, waypoint });
    });
  }
}

interface ParentFacts {
  readonly isKnown: boolean;
  readonly hasPort: boolean;
  readonly attachment: Attachment | undefined;
}

function obstacle(
  route: HttpRouteResource,
  parent: ParentReference,
  { isKnown, hasPort, attachment }: ParentFacts,
): [VerdictReason, string] | undefined {
  if (!isServiceParent(parent)) {
    const kind = parent.kind ?? 'Gateway';
    return ['GatewayNotServed', `parents of kind ${kind} are not served; only Service is`];
  }
  if (!isKnown) return ['NoMatchingParent', `there is no service ${parent.name}`];
  if (parent.port !== 0 && !hasPort) {
    return ['NoMatchingParent', `service ${parent.name} has no port ${parent.port}`];
  }
  const gateway = attachment?.attached;
  if (gateway === undefined) {
    const hint = attachment?.binding?.message ?? 'label it with istio.io/use-waypoint';
    return ['NoWaypoint', `service ${parent.name} has no waypoint: ${hint}`];
  }
  if (!gateway.isServed) {
    return ['GatewayNotServed', `another controller serves waypoint ${gateway.key}`];
  }
  const serviceNamespace = parent.namespace === '' ? route.namespace : parent.namespace;
  if (route.namespace !== gateway.namespace && route.namespace !== serviceNamespace) {
    const why = `only routes of namespace ${serviceNamespace} or ${gateway.namespace} apply`;
    return ['ForeignNamespace', why];
  }
  return undefined;
}
