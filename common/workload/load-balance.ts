// Chooses an endpoint of a service: filter, rank by locality as the service says, then weighted random
//. Pure; the random source is passed in. Endpoints that just failed can be left out.
import { findTargetPort, serviceKey } from './model.ts';
import type { RoutingScope, Service, Workload } from './model.ts';
import type { WorkloadStore } from './store.ts';

/** Who asks: locality and network decide the rank. */
export type LoadBalancingSource = Pick<Workload, 'locality' | 'network' | 'node' | 'clusterId'>;

/** The chosen endpoint and the port to use there. */
export interface ChosenEndpoint {
  readonly workload: Workload;
  readonly port: number;
}

/** Options of {@link chooseEndpoint}. */
export interface ChooseOptions {
  readonly service: Service;
  readonly servicePort: number;
  readonly source: LoadBalancingSource;
  readonly random: () => number;
  /** Workload uids that failed for this connection; used again only when nothing else is left. */
  readonly exclude?: ReadonlySet<string>;
  /** A waypoint's service need not list the port when the endpoint has an application tunnel. */
  readonly isWaypoint?: boolean;
  /** Endpoints of a network gateway: those of other networks are dialled directly. */
  readonly isGateway?: boolean;
}

/** Picks an endpoint, or undefined when none fits. */
export function chooseEndpoint(
  store: WorkloadStore,
  options: ChooseOptions,
): ChosenEndpoint | undefined {
  const candidates = listCandidates(store, options);
  const { exclude, service, source, random } = options;
  const fresh =
    exclude === undefined || exclude.size === 0
      ? candidates
      : candidates.filter(({ workload }) => !exclude.has(workload.uid));
  return pickWeighted(rankCandidates(fresh, service, source), random);
}

/** Endpoints that can be used at all. */
export function listCandidates(
  store: WorkloadStore,
  options: Pick<ChooseOptions, 'service' | 'servicePort' | 'isWaypoint' | 'isGateway' | 'source'>,
): ChosenEndpoint[] {
  const { service, source } = options;
  const key = serviceKey(service);
  const candidates: ChosenEndpoint[] = [];
  for (const workload of store.endpoints(key).values()) {
    if (!workload.isHealthy && service.loadBalancer.healthPolicy !== 'ALLOW_ALL') continue;
    const isRemote = options.isGateway !== true && workload.network !== source.network;
    if (isRemote && workload.networkGateway === undefined) continue;
    if (!isRemote && workload.ips.length === 0 && workload.hostname === '') continue;
    const port = targetPort(workload, key, options);
    if (port !== undefined) candidates.push({ workload, port });
  }
  return candidates;
}

function targetPort(
  workload: Workload,
  key: string,
  options: Pick<ChooseOptions, 'service' | 'servicePort' | 'isWaypoint'>,
): number | undefined {
  const { service, servicePort, isWaypoint = false } = options;
  const tunnel = workload.applicationTunnel;
  const listed = findTargetPort(service.ports, servicePort);
  if (listed === undefined && !(isWaypoint && tunnel !== undefined)) return undefined;
  const own = findTargetPort(workload.services[key] ?? [], servicePort);
  if (own !== undefined && own > 0) return own;
  if (listed !== undefined && listed > 0) return listed;
  return isWaypoint && tunnel !== undefined && tunnel.port > 0 ? servicePort : undefined;
}

function rankCandidates(
  candidates: readonly ChosenEndpoint[],
  service: Service,
  source: LoadBalancingSource,
): readonly ChosenEndpoint[] {
  const { mode, routingPreferences } = service.loadBalancer;
  if (routingPreferences.length === 0) return candidates;
  if (mode === 'STRICT') {
    return candidates.filter(({ workload }) =>
      routingPreferences.every((scope) => isSame(scope, source, workload)),
    );
  }
  if (mode !== 'FAILOVER') return candidates;
  let bestRank = -1;
  let best: ChosenEndpoint[] = [];
  for (const candidate of candidates) {
    const rank = rankOf(routingPreferences, source, candidate.workload);
    if (rank > bestRank) {
      bestRank = rank;
      best = [];
    }
    if (rank === bestRank) best.push(candidate);
  }
  return best;
}

/** Preferences matched from the start. A leading NETWORK never stops the count, but outweighs all others. */
function rankOf(
  scopes: readonly RoutingScope[],
  source: LoadBalancingSource,
  workload: Workload,
): number {
  let rank = 0;
  for (const [at, scope] of scopes.entries()) {
    const matches = isSame(scope, source, workload);
    if (at === 0 && scope === 'NETWORK') {
      if (matches) rank += scopes.length;
      continue;
    }
    if (!matches) break;
    rank++;
  }
  return rank;
}

function isSame(scope: RoutingScope, source: LoadBalancingSource, workload: Workload): boolean {
  switch (scope) {
    case 'REGION':
      return source.locality.region === workload.locality.region;
    case 'ZONE':
      return source.locality.zone === workload.locality.zone;
    case 'SUBZONE':
      return source.locality.subzone === workload.locality.subzone;
    case 'NODE':
      return source.node === workload.node;
    case 'CLUSTER':
      return source.clusterId === workload.clusterId;
    case 'NETWORK':
      return source.network === workload.network;
  }
}

function pickWeighted(
  candidates: readonly ChosenEndpoint[],
  random: () => number,
): ChosenEndpoint | undefined {
  let total = 0;
  for (const { workload } of candidates) total += workload.capacity;
  if (total === 0) return undefined;
  let at = random() * total;
  for (const candidate of candidates) {
    at -= candidate.workload.capacity;
    if (at < 0 && candidate.workload.capacity > 0) return candidate;
  }
  return candidates.findLast(({ workload }) => workload.capacity > 0);
}
