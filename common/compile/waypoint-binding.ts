// Which waypoint an object uses: its own label, else its namespace's. `attached` says
// whose config the waypoint must hold; `address` is what node proxies are told, once the waypoint is ready.
import type { ResourceMeta } from '../resources/resource.ts';
import type { GatewayAddress } from '../workload/gen/workload_pb.ts';
import type { GatewayEntity } from './gateways.ts';
import type { MeshModel } from './mesh-model.ts';
import type { WaypointBinding } from './types.ts';

/** How one object is bound. */
export interface Attachment {
  /** The waypoint that must serve the object, ready or not. */
  readonly attached: GatewayEntity | undefined;
  readonly address: GatewayAddress | undefined;
  /** What to say of it; undefined when no waypoint was asked for. */
  readonly binding: WaypointBinding | undefined;
}

const USE_WAYPOINT = 'istio.io/use-waypoint';
const USE_WAYPOINT_NAMESPACE = 'istio.io/use-waypoint-namespace';
const UNBOUND: Attachment = { attached: undefined, address: undefined, binding: undefined };

interface Wish {
  readonly waypoint: string;
  readonly isInherited: boolean;
}

/** Resolves the waypoint of an object that receives traffic of the given type. */
export function resolveWaypoint(
  model: MeshModel,
  object: ResourceMeta,
  needs: 'service' | 'workload',
): Attachment {
  const wish = findWish(model, object);
  if (wish === undefined) return UNBOUND;
  const gateway = model.gateways.get(wish.waypoint);
  if (gateway === undefined) {
    return refuse(object, wish, 'WaypointIsNotReady', `waypoint ${wish.waypoint} does not exist`);
  }
  const labels = model.namespaces.get(object.namespace)?.labels ?? {};
  if (!gateway.admits(object.namespace, labels)) {
    const why = `waypoint ${wish.waypoint} does not allow namespace ${object.namespace}`;
    return refuse(object, wish, 'AttachmentDenied', why);
  }
  if (gateway.trafficType !== 'all' && gateway.trafficType !== needs) {
    if (wish.isInherited) return UNBOUND;
    const why = `waypoint ${wish.waypoint} is for ${gateway.trafficType} traffic, not ${needs}`;
    return refuse(object, wish, 'UnsupportedTrafficType', why);
  }
  if (gateway.address === undefined) {
    const why = `waypoint ${wish.waypoint} has no address yet`;
    return { ...refuse(object, wish, 'WaypointIsNotReady', why), attached: gateway };
  }
  const message = `successfully attached to waypoint ${wish.waypoint}`;
  const binding = describe(object, wish, { bound: true, reason: 'WaypointAccepted', message });
  return { attached: gateway, address: gateway.address, binding };
}

function findWish(model: MeshModel, object: ResourceMeta): Wish | undefined {
  const own = readWish(object.labels, object.namespace);
  if (own === 'none') return undefined;
  if (own !== undefined) return { waypoint: own, isInherited: false };
  const labels = model.namespaces.get(object.namespace)?.labels ?? {};
  const inherited = readWish(labels, object.namespace);
  if (inherited === undefined || inherited === 'none') return undefined;
  return { waypoint: inherited, isInherited: true };
}

function readWish(labels: Readonly<Record<string, string>>, namespace: string): string | undefined {
  const name = labels[USE_WAYPOINT];
  if (name === undefined || name === '' || name === 'none')
    return name === 'none' ? name : undefined;
  return `${labels[USE_WAYPOINT_NAMESPACE] ?? namespace}/${name}`;
}

type Outcome = Pick<WaypointBinding, 'bound' | 'reason' | 'message'>;

function refuse(
  object: ResourceMeta,
  wish: Wish,
  reason: WaypointBinding['reason'],
  message: string,
): Attachment {
  return { ...UNBOUND, binding: describe(object, wish, { bound: false, reason, message }) };
}

function describe(object: ResourceMeta, wish: Wish, outcome: Outcome): WaypointBinding | undefined {
  const { kind, namespace, name, generation } = object;
  if (!isBound(kind)) return undefined;
  const at = generation === undefined ? {} : { generation };
  return { kind, namespace, name, ...at, waypoint: wish.waypoint, ...outcome };
}

function isBound(kind: string): kind is WaypointBinding['kind'] {
  return ['Service', 'Pod', 'ServiceEntry', 'WorkloadEntry'].includes(kind);
}
