// Chooses an endpoint: least request of two random ones (Envoy's default), round robin, or random. Ejected and
// already tried endpoints are left out while there are others. Pure but for the cursor.
import { Cluster_LbPolicy } from '../../common/l7/gen/l7_pb.ts';
import type { OutlierDetection } from '../../common/l7/gen/l7_pb.ts';
import type { Endpoint } from './endpoint.ts';

/** Round robin's memory. */
export interface BalancerCursor {
  next: number;
}

/** What a choice depends on. */
export interface PickInput {
  readonly policy: Cluster_LbPolicy;
  readonly endpoints: readonly Endpoint[];
  readonly nowMs: number;
  readonly tried: ReadonlySet<string> | undefined;
  readonly random: () => number;
}

/** The endpoint for a try, or undefined when there is none at all. */
export function pickEndpoint(cursor: BalancerCursor, input: PickInput): Endpoint | undefined {
  const { endpoints, nowMs, tried } = input;
  const isFit = (endpoint: Endpoint): boolean =>
    endpoint.ejectedUntilMs <= nowMs && tried?.has(endpoint.key) !== true;
  let usable: readonly Endpoint[] = endpoints;
  if (!endpoints.every(isFit)) {
    usable = endpoints.filter(isFit);
    // Everything is ejected or tried: a poor endpoint is better than none (Envoy's panic mode).
    if (usable.length === 0) {
      usable = endpoints.filter(({ ejectedUntilMs }) => ejectedUntilMs <= nowMs);
      if (usable.length === 0) usable = endpoints;
    }
  }
  return pick(cursor, input, usable);
}

function pick(
  cursor: BalancerCursor,
  { policy, random }: PickInput,
  usable: readonly Endpoint[],
): Endpoint | undefined {
  const count = usable.length;
  if (count <= 1) return usable[0];
  switch (policy) {
    case Cluster_LbPolicy.ROUND_ROBIN:
      cursor.next = (cursor.next + 1) % count;
      return usable[cursor.next];
    case Cluster_LbPolicy.RANDOM:
      return usable[Math.floor(random() * count)];
    default: {
      const first = Math.floor(random() * count);
      const second = (first + 1 + Math.floor(random() * (count - 1))) % count;
      const [a, b] = [usable[first], usable[second]];
      if (a === undefined || b === undefined) return a ?? b;
      return b.activeRequests < a.activeRequests ? b : a;
    }
  }
}

/** Notes a response (status 0: no response came) and ejects the endpoint when it has failed too often in a row. */
export function recordOutcome(
  endpoint: Endpoint,
  endpoints: readonly Endpoint[],
  detection: OutlierDetection | undefined,
  status: number,
  nowMs: number,
): void {
  if (detection === undefined) return;
  const isGatewayError = status === 0 || (status >= 502 && status <= 504);
  const is5xx = status === 0 || status >= 500;
  endpoint.consecutive5xx = is5xx ? endpoint.consecutive5xx + 1 : 0;
  endpoint.consecutiveGatewayErrors = isGatewayError ? endpoint.consecutiveGatewayErrors + 1 : 0;
  const { consecutive5xx, consecutiveGatewayErrors } = detection;
  const isOut =
    (consecutive5xx > 0 && endpoint.consecutive5xx >= consecutive5xx) ||
    (consecutiveGatewayErrors > 0 && endpoint.consecutiveGatewayErrors >= consecutiveGatewayErrors);
  if (!isOut || endpoint.ejectedUntilMs > nowMs) return;
  const ejected = endpoints.filter(({ ejectedUntilMs }) => ejectedUntilMs > nowMs).length;
  const percent = detection.maxEjectionPercent === 0 ? 10 : detection.maxEjectionPercent;
  // At least one may always be ejected, as in Envoy.
  if (ejected + 1 > Math.max(1, Math.floor((endpoints.length * percent) / 100))) return;
  endpoint.ejections++;
  endpoint.consecutive5xx = 0;
  endpoint.consecutiveGatewayErrors = 0;
  const base = detection.baseEjectionMs === 0 ? 30_000 : detection.baseEjectionMs;
  endpoint.ejectedUntilMs = nowMs + Math.min(base * endpoint.ejections, 300_000);
}
