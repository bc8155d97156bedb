// Gateways as waypoints: any Gateway can be one as soon as its status has an address; those of our classes are
// also sent L7 config. Which objects may attach is said by the HBONE listener's allowedRoutes.
import { create } from '@bufbuild/protobuf';
import { matchesSelector } from '../label-selector.ts';
import {
  GatewayClassSchema,
  GatewaySchema,
  GatewayStatusSchema,
  type Gateway,
} from '../resources/gen/gateway_api_pb.ts';
import { Problems } from '../resources/problem.ts';
import { isRecord, readMessage } from '../resources/read-message.ts';
import { compareText, readResource, type Resource } from '../resources/resource.ts';
import { GatewayAddressSchema, type GatewayAddress } from '../workload/gen/workload_pb.ts';
import { parseIp } from '../workload/ip.ts';
import type { CompileInput, ConfigObject } from './types.ts';
import type { VerdictLog } from './verdict-log.ts';

export type TrafficType = 'service' | 'workload' | 'all' | 'none';

export interface GatewayEntity {
  /** "namespace/name" */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly className: string;
  readonly trafficType: TrafficType;
  /** Where node proxies find it; undefined until its status has an address. */
  readonly address: GatewayAddress | undefined;
  /** A waypoint class that this control plane serves. */
  readonly isServed: boolean;
  /** Whether objects of a namespace may use it. */
  readonly admits: (namespace: string, labels: Readonly<Record<string, string>>) => boolean;
}

/** Waypoint classes and the controller that must own them for us to serve them. */
export const WAYPOINT_CONTROLLERS: Readonly<Record<string, string>> = {
  'istio-waypoint': 'istio.io/mesh-controller',
  'ambient-waypoint': 'ambient-mesh.io/waypoint-controller',
};

const HBONE_PORT = 15008;
const WAYPOINT_FOR = 'istio.io/waypoint-for';

/** Reads all Gateways, by "namespace/name". */
export function buildGateways(input: CompileInput, log: VerdictLog): Map<string, GatewayEntity> {
  const classes = readClasses(input.gatewayClasses ?? []);
  const gateways: GatewayEntity[] = [];
  for (const object of input.gateways ?? []) {
    log.guard('Gateway', object, () => {
      // Istio's own kind of the same name describes gateways, never waypoints.
      if (object.apiVersion?.startsWith('networking.istio.io/') === true) return;
      const gateway = readResource('Gateway', GatewaySchema, object);
      if (gateway.name === '' || !log.admit(gateway)) return;
      gateways.push(toEntity(gateway, object, classes, input.mesh.network));
    });
  }
  gateways.sort((a, b) => compareText(a.key, b.key));
  return new Map(gateways.map((gateway) => [gateway.key, gateway]));
}

interface ClassFacts {
  readonly controller: string;
  readonly waypointFor: string | undefined;
}

function readClasses(objects: readonly ConfigObject[]): Map<string, ClassFacts> {
  return new Map(
    objects.map((object) => {
      const resource = readResource('GatewayClass', GatewayClassSchema, object);
      const waypointFor = resource.labels[WAYPOINT_FOR];
      return [resource.name, { controller: resource.spec.controllerName, waypointFor }];
    }),
  );
}

function toEntity(
  gateway: Resource<Gateway>,
  object: ConfigObject,
  classes: ReadonlyMap<string, ClassFacts>,
  network: string,
): GatewayEntity {
  const { namespace, name } = gateway;
  const className = gateway.spec.gatewayClassName;
  const facts = classes.get(className);
  const controller = Object.hasOwn(WAYPOINT_CONTROLLERS, className)
    ? WAYPOINT_CONTROLLERS[className]
    : undefined;
  return {
    key: `${namespace}/${name}`,
    namespace,
    name,
    className,
    trafficType: trafficType(gateway.labels[WAYPOINT_FOR] ?? facts?.waypointFor),
    address: gatewayAddress(object, namespace, network),
    isServed: controller !== undefined && (facts === undefined || facts.controller === controller),
    admits: admission(gateway),
  };
}

function trafficType(text: string | undefined): TrafficType {
  return text === 'workload' || text === 'all' || text === 'none' ? text : 'service';
}

function gatewayAddress(
  object: ConfigObject,
  namespace: string,
  network: string,
): GatewayAddress | undefined {
  const status = isRecord(object.status) ? { addresses: object.status['addresses'] } : {};
  const { addresses } = readMessage(GatewayStatusSchema, status, new Problems('status'));
  const host = addresses.find((address) => address.type === 'Hostname' && address.value !== '');
  if (host !== undefined) {
    const hostname = { namespace, hostname: host.value };
    return create(GatewayAddressSchema, {
      destination: { case: 'hostname', value: hostname },
      hboneMtlsPort: HBONE_PORT,
    });
  }
  const ip = addresses
    .filter((address) => address.type === 'IPAddress' || address.type === '')
    .map((address) => parseIp(address.value))
    .find((bytes) => bytes !== undefined);
  if (ip === undefined) return undefined;
  return create(GatewayAddressSchema, {
    destination: { case: 'address', value: { network, address: ip } },
    hboneMtlsPort: HBONE_PORT,
  });
}

function admission(gateway: Resource<Gateway>): GatewayEntity['admits'] {
  const { listeners } = gateway.spec;
  const listener =
    listeners.find((entry) => entry.protocol === 'HBONE') ??
    listeners.find((entry) => entry.port === HBONE_PORT);
  const allowed = listener?.allowedRoutes?.namespaces;
  return (namespace, labels) => {
    if (namespace === gateway.namespace) return true;
    if (allowed?.from === 'All') return true;
    return (
      allowed?.from === 'Selector' &&
      allowed.selector !== undefined &&
      matchesSelector(labels, allowed.selector)
    );
  };
}
