// The workload model the proxies decide on: lean plain objects made from Istio's workload API, cheap to copy
// between threads. Addresses are canonical text (see ip.ts); maps are records so that they survive a clone.

/** A waypoint or network gateway: by service name or by address. */
export type GatewayAddress =
  | {
      readonly kind: 'hostname';
      readonly namespace: string;
      readonly hostname: string;
      readonly port: number;
    }
  | {
      readonly kind: 'address';
      readonly network: string;
      readonly ip: string;
      readonly port: number;
    };

/** A service port and the port of the workload behind it; target 0 means named, resolved per endpoint. */
export interface PortMapping {
  readonly servicePort: number;
  readonly targetPort: number;
  /** Declared to speak something else than HTTP: plain TCP or TLS. */
  readonly isOpaque?: true;
}

export type WorkloadType = 'deployment' | 'cronjob' | 'pod' | 'job';

/** A pod, VM or external endpoint. */
export interface Workload {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
  readonly ips: readonly string[];
  readonly hostname: string;
  readonly network: string;
  readonly protocol: 'TCP' | 'HBONE';
  readonly isNativeTunnel: boolean;
  readonly isHostNetwork: boolean;
  /** The control plane allows the same-node path: nothing between the pods' interfaces would be skipped. */
  readonly isNodeLocalAllowed: boolean;
  /** Of how many of its connections the node proxies observe HTTP, in percent; 0: of none. */
  readonly l7Percent: number;
  readonly waypoint: GatewayAddress | undefined;
  readonly networkGateway: GatewayAddress | undefined;
  readonly node: string;
  readonly workloadName: string;
  readonly workloadType: WorkloadType;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly clusterId: string;
  readonly locality: { readonly region: string; readonly zone: string; readonly subzone: string };
  /** `namespace/name` of the selector policies that apply. */
  readonly authorizationPolicies: readonly string[];
  readonly isHealthy: boolean;
  /** Weight in load balancing; 0 is never chosen. */
  readonly capacity: number;
  /** `namespace/hostname` of its services, with this endpoint's ports. */
  readonly services: Readonly<Record<string, readonly PortMapping[]>>;
  readonly applicationTunnel:
    { readonly protocol: 'NONE' | 'PROXY'; readonly port: number } | undefined;
}

export type RoutingScope = 'REGION' | 'ZONE' | 'SUBZONE' | 'NODE' | 'CLUSTER' | 'NETWORK';

/** How endpoints are chosen. */
export interface LoadBalancer {
  readonly mode: 'STANDARD' | 'STRICT' | 'FAILOVER' | 'PASSTHROUGH';
  readonly routingPreferences: readonly RoutingScope[];
  readonly healthPolicy: 'ONLY_HEALTHY' | 'ALLOW_ALL';
}

/** A service with its virtual addresses. */
export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: ReadonlyArray<{ readonly network: string; readonly ip: string }>;
  readonly cidrVips: ReadonlyArray<{
    readonly network: string;
    readonly ip: string;
    readonly length: number;
  }>;
  readonly ports: readonly PortMapping[];
  readonly subjectAltNames: readonly string[];
  readonly waypoint: GatewayAddress | undefined;
  readonly weightedWaypoints: ReadonlyArray<{
    readonly destination: GatewayAddress;
    readonly weight: number;
  }>;
  readonly loadBalancer: LoadBalancer;
  readonly ipFamilies: 'AUTOMATIC' | 'IPV4_ONLY' | 'IPV6_ONLY' | 'DUAL';
  readonly isCanonical: boolean;
  readonly visibility: 'PUBLIC' | 'NAMESPACE';
}

/** One resource of the Address type. */
export type AddressResource =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service };

/** Key of a service: `namespace/hostname`. */
export function serviceKey(service: {
  readonly namespace: string;
  readonly hostname: string;
}): string {
  return `${service.namespace}/${service.hostname}`;
}

/** The SPIFFE id of a workload. */
export function workloadIdentity(
  workload: Pick<Workload, 'trustDomain' | 'namespace' | 'serviceAccount'>,
): string {
  return `spiffe://${workload.trustDomain}/ns/${workload.namespace}/sa/${workload.serviceAccount}`;
}

/** Target port of a service port, or undefined when the list does not have it. */
export function findTargetPort(
  ports: readonly PortMapping[],
  servicePort: number,
): number | undefined {
  return ports.find((port) => port.servicePort === servicePort)?.targetPort;
}
