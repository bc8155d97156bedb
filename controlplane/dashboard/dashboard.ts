// The dashboard: one static page, and what it shows as JSON: services as a graph with L4 and L7 traffic, the proxies,
// the policies with their verdicts. It only reads.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import type { Verdict } from '../../common/compile/types.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import { jsonPage, type Page } from '../http-server.ts';
import { scrapeProxies, type ProxyPod, type ProxySamples } from './proxy-scraper.ts';
import { buildL4, buildL7 } from './traffic.ts';

const CACHE_MS = 1000;
const UI = join(import.meta.dirname, 'ui');
const GATEWAY_NAME = 'gateway.networking.k8s.io/gateway-name';
const MANAGED = 'gateway.istio.io/managed';

/** What the dashboard reads. */
export interface DashboardSources {
  readonly clock: Clock;
  readonly rootNamespace: string;
  /** All pods of the cluster. */
  readonly pods: () => ReadonlyMap<string, KubeObject>;
  readonly verdicts: () => readonly Verdict[];
}

interface PodStatus {
  readonly status?: { readonly podIP?: string; readonly phase?: string };
}

/** The node proxies and waypoints among the pods. */
export function proxyPods(pods: Iterable<KubeObject>, rootNamespace: string): ProxyPod[] {
  return [...pods].flatMap((pod) => {
    const { name = '', namespace = '', labels = {} } = pod.metadata ?? {};
    const { status } = pod as PodStatus;
    if (status?.podIP === undefined || status.phase !== 'Running') return [];
    const base = { name: `${namespace}/${name}`, address: status.podIP };
    if (labels[MANAGED] !== undefined) {
      return [{ ...base, waypoint: `${namespace}/${labels[GATEWAY_NAME] ?? name}` }];
    }
    return labels['app'] === 'ztunnel' && namespace === rootNamespace ? [base] : [];
  });
}

interface PolicyRow {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly parts: Pick<Verdict, 'field' | 'enforcedAt' | 'reason' | 'message'>[];
}

/** The verdicts of each object together, in order of their names. */
export function groupVerdicts(verdicts: readonly Verdict[]): PolicyRow[] {
  const rows = new Map<string, PolicyRow>();
  for (const { kind, namespace, name, ...verdict } of verdicts) {
    const key = `${namespace}/${name}/${kind}`;
    const row = rows.get(key) ?? { kind, namespace, name, parts: [] };
    const { field, enforcedAt, reason, message } = verdict;
    row.parts.push({ field, enforcedAt, reason, message });
    rows.set(key, row);
  }
  return [...rows].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

function describeTraffic(proxies: readonly ProxySamples[]): object {
  const nodes = proxies.filter(({ proxy }) => proxy.waypoint === undefined);
  return {
    l4: buildL4(nodes.flatMap(({ samples }) => samples)),
    l7: proxies.flatMap(({ proxy, samples }) =>
      proxy.waypoint === undefined ? [] : buildL7(samples, proxy.waypoint),
    ),
    proxies: proxies.map(({ proxy, isUp }) => ({ ...proxy, isUp })),
  };
}

/** The pages of the dashboard, by path. */
export function dashboardPages(sources: DashboardSources): Record<string, () => Promise<Page>> {
  const { clock } = sources;
  let cached: { readonly at: number; readonly traffic: Promise<object> } | undefined;
  const readTraffic = (): Promise<object> => {
    if (cached === undefined || clock.now() - cached.at >= CACHE_MS) {
      const proxies = proxyPods(sources.pods().values(), sources.rootNamespace);
      cached = { at: clock.now(), traffic: scrapeProxies(proxies).then(describeTraffic) };
    }
    return cached.traffic;
  };
  const file = (name: string, type: string): (() => Promise<Page>) => {
    const body = readFileSync(join(UI, name), 'utf8');
    return () => Promise.resolve({ type, body });
  };
  return {
    '/': file('index.html', 'text/html; charset=utf-8'),
    '/dashboard.js': file('dashboard.js', 'text/javascript; charset=utf-8'),
    '/dashboard.css': file('dashboard.css', 'text/css; charset=utf-8'),
    '/api/graph': async () => {
      const traffic = await readTraffic();
      return jsonPage({ at: cached?.at, ...traffic });
    },
    '/api/policies': () => Promise.resolve(jsonPage(groupVerdicts(sources.verdicts()))),
  };
}
