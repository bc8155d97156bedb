// A DestinationRule's traffic policy for one port and subset, and how it looks on a cluster.
import { create } from '@bufbuild/protobuf';
import {
  Cluster_LbPolicy,
  OutlierDetectionSchema,
  type Cluster,
  type OutlierDetection,
} from '../../l7/gen/l7_pb.ts';
import {
  ConnectionPoolSettings_HTTPSettings_H2UpgradePolicy,
  LoadBalancerSettings_SimpleLB,
  type OutlierDetection as OutlierSpec,
  type TrafficPolicy,
} from '../../resources/gen/destination_rule_pb.ts';
import { durationMs } from '../../resources/go-duration.ts';

/** What of a traffic policy is in force. */
export type PolicyParts = Pick<
  TrafficPolicy,
  'loadBalancer' | 'connectionPool' | 'outlierDetection' | 'tls'
>;

/** The policy for a port: its port-level settings replace the rest entirely. */
export function policyForPort(policy: TrafficPolicy | undefined, port: number): PolicyParts {
  const own = policy?.portLevelSettings.find((settings) => settings.port?.number === port);
  return own ?? policy ?? {};
}

/** A subset's policy over the rule's: part by part. */
export function overlayPolicy(base: PolicyParts, over: PolicyParts): PolicyParts {
  const loadBalancer = over.loadBalancer ?? base.loadBalancer;
  const connectionPool = over.connectionPool ?? base.connectionPool;
  const outlierDetection = over.outlierDetection ?? base.outlierDetection;
  const tls = over.tls ?? base.tls;
  return {
    ...(loadBalancer === undefined ? {} : { loadBalancer }),
    ...(connectionPool === undefined ? {} : { connectionPool }),
    ...(outlierDetection === undefined ? {} : { outlierDetection }),
    ...(tls === undefined ? {} : { tls }),
  };
}

/** Writes the policy into a cluster. */
export function applyPolicy(cluster: Cluster, policy: PolicyParts): void {
  cluster.lbPolicy = lbPolicy(policy.loadBalancer?.simple);
  const { tcp, http } = policy.connectionPool ?? {};
  cluster.connectTimeoutMs = durationMs(tcp?.connectTimeout);
  cluster.maxConnections = tcp?.maxConnections ?? 0;
  cluster.maxPendingRequests = http?.http1MaxPendingRequests ?? 0;
  cluster.maxRequests = http?.http2MaxRequests ?? 0;
  cluster.maxRequestsPerConnection = http?.maxRequestsPerConnection ?? 0;
  const upgrade = ConnectionPoolSettings_HTTPSettings_H2UpgradePolicy.UPGRADE;
  if (http?.h2UpgradePolicy === upgrade) cluster.http2 = true;
  if (policy.outlierDetection !== undefined) {
    cluster.outlierDetection = outlierDetection(policy.outlierDetection);
  }
}

function lbPolicy(simple: LoadBalancerSettings_SimpleLB | undefined): Cluster_LbPolicy {
  switch (simple) {
    case LoadBalancerSettings_SimpleLB.RANDOM:
      return Cluster_LbPolicy.RANDOM;
    case LoadBalancerSettings_SimpleLB.ROUND_ROBIN:
      return Cluster_LbPolicy.ROUND_ROBIN;
    case LoadBalancerSettings_SimpleLB.PASSTHROUGH:
      return Cluster_LbPolicy.PASSTHROUGH;
    default:
      return Cluster_LbPolicy.LEAST_REQUEST;
  }
}

// Istio's defaults: five errors, every 10 s, out for 30 s, at most a tenth of the endpoints.
function outlierDetection(spec: OutlierSpec): OutlierDetection {
  return create(OutlierDetectionSchema, {
    consecutive5xx: spec.consecutive5xxErrors ?? 5,
    consecutiveGatewayErrors: spec.consecutiveGatewayErrors ?? 0,
    intervalMs: durationMs(spec.interval) || 10_000,
    baseEjectionMs: durationMs(spec.baseEjectionTime) || 30_000,
    maxEjectionPercent: spec.maxEjectionPercent || 10,
    minHealthPercent: spec.minHealthPercent,
  });
}
