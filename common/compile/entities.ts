// Pods and services as the compiler sees them.
import type { ResourceMeta } from '../resources/resource.ts';
import type { ServiceProtocol } from './port-protocol.ts';
import type { Pod, Service } from './types.ts';

export interface PodEntity extends ResourceMeta {
  readonly pod: Pod;
  readonly uid: string;
  readonly ips: readonly string[];
  /** Made for a Gateway: has no waypoint of its own and tunnels by itself. */
  readonly isWaypoint: boolean;
}

export interface ServicePortEntity {
  readonly name: string;
  readonly port: number;
  /** Number, port name, or undefined for the same as `port`. */
  readonly targetPort: number | string | undefined;
  readonly protocol: ServiceProtocol;
}

/** A Kubernetes Service or one host of a ServiceEntry. */
export interface ServiceEntity extends ResourceMeta {
  readonly key: string;
  readonly hostname: string;
  readonly ports: readonly ServicePortEntity[];
  /** The Service, unless this comes of a ServiceEntry. */
  readonly service: Service | undefined;
  /** Labels of its workloads, of its own namespace; empty: none are selected. */
  readonly selector: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
  readonly isPassthrough: boolean;
  readonly subjectAltNames: readonly string[];
  readonly staticEndpoints: readonly StaticEndpoint[];
  readonly isWaypoint: boolean;
}

/** A WorkloadEntry: something outside the cluster that has a place in it. */
export interface WorkloadEntryEntity extends ResourceMeta {
  readonly uid: string;
  readonly endpoint: StaticEndpoint;
}

/** An endpoint written into a ServiceEntry, or as a WorkloadEntry. */
export interface StaticEndpoint {
  readonly address: string;
  readonly ports: Readonly<Record<string, number>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly network: string;
  readonly locality: string;
  readonly weight: number;
  readonly serviceAccount: string;
}
