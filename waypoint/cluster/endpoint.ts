// An endpoint of a cluster as the balancer sees it: a workload, a port, and how it has fared lately.
import type { Workload } from '../../common/workload/model.ts';

/** Kept as long as the cluster and the workload are. */
export interface Endpoint {
  readonly key: string;
  /** Replaced when the workload changes. */
  workload: Workload;
  readonly port: number;
  /** Requests in flight, for least request. */
  activeRequests: number;
  consecutive5xx: number;
  consecutiveGatewayErrors: number;
  /** Times ejected so far: each ejection lasts longer. */
  ejections: number;
  ejectedUntilMs: number;
}

/** A fresh endpoint. */
export function createEndpoint(key: string, workload: Workload, port: number): Endpoint {
  return {
    key,
    workload,
    port,
    activeRequests: 0,
    consecutive5xx: 0,
    consecutiveGatewayErrors: 0,
    ejections: 0,
    ejectedUntilMs: 0,
  };
}
