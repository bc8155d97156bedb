// Turns the compiler's output into xDS snapshots: each resource serialised and hashed once, unchanged ones shared
// between generations. A type's generation grows only when one of its resources has changed.
import { createHash } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { CompileOutput, WaypointConfig } from '../../common/compile/types.ts';
import {
  AuthorizationPolicySchema,
  ClusterSchema,
  ServiceRoutesSchema,
  SubsetMembersSchema,
} from '../../common/l7/gen/l7_pb.ts';
import { AuthorizationSchema } from '../../common/policy/gen/authorization_pb.ts';
import { AddressSchema } from '../../common/workload/gen/workload_pb.ts';
import type { ServedResource, TypeSnapshot } from '../../common/xds/delta-server.ts';
import { addressLookup } from './address-lookup.ts';

const PREFIX = 'type.googleapis.com/';
/** Type URLs every authenticated client may ask for. */
export const ADDRESS_TYPE = `${PREFIX}${AddressSchema.typeName}`;
export const AUTHORIZATION_TYPE = `${PREFIX}${AuthorizationSchema.typeName}`;

type WaypointPart = keyof WaypointConfig;

/** Type URLs of a waypoint's own configuration. */
export const WAYPOINT_TYPES: ReadonlyMap<string, WaypointPart> = new Map<string, WaypointPart>([
  [`${PREFIX}${ServiceRoutesSchema.typeName}`, 'serviceRoutes'],
  [`${PREFIX}${ClusterSchema.typeName}`, 'clusters'],
  [`${PREFIX}${SubsetMembersSchema.typeName}`, 'subsetMembers'],
  [`${PREFIX}${AuthorizationPolicySchema.typeName}`, 'authorizationPolicies'],
]);

const EMPTY: TypeSnapshot = { generation: 1, resources: new Map() };
type WaypointSnapshots = Readonly<Record<WaypointPart, TypeSnapshot>>;

/** The snapshots served now. */
export class Snapshots {
  #addresses: TypeSnapshot = EMPTY;
  #authorizations: TypeSnapshot = EMPTY;
  #waypoints: ReadonlyMap<string, WaypointSnapshots> = new Map();
  #generation = 1;

  /** Generation of the addresses, for {@link import('./withdrawal.ts')}. */
  get addressGeneration(): number {
    return this.#addresses.generation;
  }

  /** Takes a new output. */
  update(output: CompileOutput): void {
    const generation = ++this.#generation;
    const addresses = refresh(AddressSchema, output.addresses, this.#addresses, generation);
    this.#addresses =
      addresses === this.#addresses
        ? addresses
        : { ...addresses, ...addressLookup(output.addresses) };
    this.#authorizations = refresh(
      AuthorizationSchema,
      output.authorizations,
      this.#authorizations,
      generation,
    );
    const waypoints = new Map<string, WaypointSnapshots>();
    for (const [name, config] of output.waypoints) {
      waypoints.set(name, refreshWaypoint(config, this.#waypoints.get(name), generation));
    }
    this.#waypoints = waypoints;
  }

  /** Types common to all clients; undefined for another type. */
  shared(typeUrl: string): TypeSnapshot | undefined {
    if (typeUrl === ADDRESS_TYPE) return this.#addresses;
    return typeUrl === AUTHORIZATION_TYPE ? this.#authorizations : undefined;
  }

  /** A part of a waypoint's configuration, empty for a waypoint without any. */
  waypoint(gateway: string, part: WaypointPart): TypeSnapshot {
    return this.#waypoints.get(gateway)?.[part] ?? { ...EMPTY, generation: this.#generation };
  }
}

function refreshWaypoint(
  config: WaypointConfig,
  previous: WaypointSnapshots | undefined,
  generation: number,
): WaypointSnapshots {
  const old = (part: WaypointPart): TypeSnapshot => previous?.[part] ?? EMPTY;
  return {
    serviceRoutes: refresh(
      ServiceRoutesSchema,
      config.serviceRoutes,
      old('serviceRoutes'),
      generation,
    ),
    clusters: refresh(ClusterSchema, config.clusters, old('clusters'), generation),
    subsetMembers: refresh(
      SubsetMembersSchema,
      config.subsetMembers,
      old('subsetMembers'),
      generation,
    ),
    authorizationPolicies: refresh(
      AuthorizationPolicySchema,
      config.authorizationPolicies,
      old('authorizationPolicies'),
      generation,
    ),
  };
}

/** The previous snapshot itself when nothing has changed. */
function refresh<Desc extends DescMessage>(
  schema: Desc,
  messages: ReadonlyMap<string, MessageShape<Desc>>,
  previous: TypeSnapshot,
  generation: number,
): TypeSnapshot {
  const resources = new Map<string, ServedResource>();
  let isChanged = messages.size !== previous.resources.size;
  for (const [name, message] of messages) {
    const value = toBinary(schema, message);
    const version = createHash('sha256').update(value).digest('base64url').slice(0, 16);
    const before = previous.resources.get(name);
    if (before?.version === version) resources.set(name, before);
    else {
      isChanged = true;
      resources.set(name, { name, version, value });
    }
  }
  return isChanged ? { generation, resources } : previous;
}
