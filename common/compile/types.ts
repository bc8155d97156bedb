// The contract of the compiler: Kubernetes objects and mesh settings in; what each proxy is sent, and a
// verdict for every policy and route, out. The object interfaces name only the fields the compiler reads
// (those of client-node fit them), so this folder needs no Kubernetes client.
import type {
  AuthorizationPolicy,
  Cluster,
  ServiceRoutes,
  SubsetMembers,
} from '../l7/gen/l7_pb.ts';
import type { LabelSelector } from '../label-selector.ts';
import type { Authorization } from '../policy/gen/authorization_pb.ts';
import type { Address } from '../workload/gen/workload_pb.ts';

/** Labels or annotations. */
export type StringMap = Readonly<Record<string, string>>;

/** The part of Kubernetes object metadata that is read. */
export interface ObjectMeta {
  readonly name?: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly generation?: number;
  readonly labels?: StringMap;
  readonly annotations?: StringMap;
  readonly creationTimestamp?: string | Date;
  readonly deletionTimestamp?: string | Date;
  readonly ownerReferences?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly controller?: boolean;
  }[];
}

/** Any object whose spec is read through a schema (Istio and Gateway API kinds). */
export interface ConfigObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: ObjectMeta;
  readonly spec?: unknown;
  readonly status?: unknown;
}

export interface ContainerPort {
  readonly name?: string;
  readonly containerPort: number;
  readonly protocol?: string;
}

export interface Container {
  readonly name?: string;
  readonly ports?: readonly ContainerPort[];
  readonly restartPolicy?: string;
}

export interface Pod {
  readonly metadata?: ObjectMeta;
  readonly spec?: {
    readonly nodeName?: string;
    readonly hostNetwork?: boolean;
    readonly serviceAccountName?: string;
    readonly containers?: readonly Container[];
    readonly initContainers?: readonly Container[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip?: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  readonly protocol?: string;
  readonly targetPort?: number | string;
  readonly appProtocol?: string;
}

export interface Service {
  readonly metadata?: ObjectMeta;
  readonly spec?: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly ipFamilies?: readonly string[];
    readonly ports?: readonly ServicePort[];
    readonly selector?: StringMap;
    readonly publishNotReadyAddresses?: boolean;
    readonly internalTrafficPolicy?: string;
    readonly trafficDistribution?: string;
  };
}

export interface EndpointSlice {
  readonly metadata?: ObjectMeta;
  readonly addressType?: string;
  readonly endpoints?: readonly {
    readonly addresses?: readonly string[];
    readonly nodeName?: string;
    readonly conditions?: { readonly ready?: boolean };
    readonly targetRef?: {
      readonly kind?: string;
      readonly name?: string;
      readonly namespace?: string;
    };
  }[];
  readonly ports?: readonly {
    readonly name?: string;
    readonly port?: number;
    readonly protocol?: string;
  }[];
}

/** Only whom it selects is read. */
export interface NetworkPolicy {
  readonly metadata?: ObjectMeta;
  readonly spec?: { readonly podSelector?: LabelSelector };
}

export interface Namespace {
  readonly metadata?: ObjectMeta;
}

export interface Node {
  readonly metadata?: ObjectMeta;
}

/** What the control plane is configured with. */
export interface MeshSettings {
  readonly trustDomain: string;
  /** Other names of it: peers and principals of these are those of the mesh. */
  readonly trustDomainAliases?: readonly string[];
  /** DNS suffix of services, without a leading dot. */
  readonly domain: string;
  readonly clusterId: string;
  readonly network: string;
  readonly rootNamespace: string;
}

/** Everything the compiler reads; a kind left out is a kind without objects. */
export interface CompileInput {
  readonly mesh: MeshSettings;
  readonly pods?: readonly Pod[];
  readonly services?: readonly Service[];
  readonly endpointSlices?: readonly EndpointSlice[];
  readonly networkPolicies?: readonly NetworkPolicy[];
  readonly namespaces?: readonly Namespace[];
  readonly nodes?: readonly Node[];
  readonly gateways?: readonly ConfigObject[];
  readonly gatewayClasses?: readonly ConfigObject[];
  readonly httpRoutes?: readonly ConfigObject[];
  readonly virtualServices?: readonly ConfigObject[];
  readonly destinationRules?: readonly ConfigObject[];
  readonly authorizationPolicies?: readonly ConfigObject[];
  readonly peerAuthentications?: readonly ConfigObject[];
  readonly serviceEntries?: readonly ConfigObject[];
  readonly workloadEntries?: readonly ConfigObject[];
}

/** Percent of the connections whose HTTP is observed, by namespace; only of those that ask. */
export type L7Rates = ReadonlyMap<string, number>;

/** Where something is executed: at node proxies, at a waypoint, or by nobody. */
export type EnforcedAt = 'node' | 'waypoint' | 'nowhere';

/** Stable codes: tests, status conditions and the CLI key on them. docs/errors.md explains each. */
export const VERDICT_REASONS = [
  // executed
  'Accepted',
  // not executed
  'Invalid',
  'UnknownField',
  'UnsupportedField',
  'UnsupportedValue',
  'NoWaypoint',
  'ForeignNamespace',
  'HostNotFound',
  'PortNotFound',
  'SubsetNotFound',
  'BackendNotFound',
  'InvalidKind',
  'TargetNotFound',
  'AncestorNotBound',
  'GatewayNotServed',
  'NoMatchingParent',
  'RequiresWaypoint',
  'NoWorkloads',
  'Shadowed',
] as const;

/** One of {@link VERDICT_REASONS}. */
export type VerdictReason = (typeof VERDICT_REASONS)[number];

/** Says for one object, field or rule where it is executed and why. */
export interface Verdict {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** JSON path inside the object, e.g. `spec.http[0].route[1].destination.subset`; `spec` for the whole. */
  readonly field: string;
  readonly enforcedAt: EnforcedAt;
  readonly reason: VerdictReason;
  readonly message: string;
  /** The waypoint that executes it, "namespace/gateway". */
  readonly waypoint?: string;
  readonly generation?: number;
}

/** How an object labelled with use-waypoint fares; becomes the WaypointBound condition of a Service. */
export interface WaypointBinding {
  readonly kind: 'Service' | 'Pod' | 'ServiceEntry' | 'WorkloadEntry';
  readonly namespace: string;
  readonly name: string;
  readonly generation?: number;
  /** "namespace/gateway" that was asked for. */
  readonly waypoint: string;
  readonly bound: boolean;
  readonly reason:
    'WaypointAccepted' | 'WaypointIsNotReady' | 'AttachmentDenied' | 'UnsupportedTrafficType';
  readonly message: string;
}

/** What one waypoint is sent, by delta-xDS resource name. */
export interface WaypointConfig {
  readonly serviceRoutes: ReadonlyMap<string, ServiceRoutes>;
  readonly clusters: ReadonlyMap<string, Cluster>;
  readonly subsetMembers: ReadonlyMap<string, SubsetMembers>;
  readonly authorizationPolicies: ReadonlyMap<string, AuthorizationPolicy>;
}

/** All proxies' config by resource name, in a deterministic order, and what became of every object. */
export interface CompileOutput {
  /** Key: workload uid or "namespace/hostname". */
  readonly addresses: ReadonlyMap<string, Address>;
  /** Key: "namespace/name". */
  readonly authorizations: ReadonlyMap<string, Authorization>;
  /** Key: "namespace/gateway". */
  readonly waypoints: ReadonlyMap<string, WaypointConfig>;
  readonly l7Rates: L7Rates;
  readonly verdicts: readonly Verdict[];
  readonly bindings: readonly WaypointBinding[];
}
