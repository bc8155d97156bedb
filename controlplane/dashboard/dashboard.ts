// The dashboard: one static page, and what it shows as JSON: services as a graph with L4 and L7 traffic, the proxies,
// the policies with their verdicts. It only reads.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import type { Verdict } from '../../common/compile/types.ts';
import type { Sample } from '../../common/telemetry/samples.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import { jsonPage, type Page } from '../http-server.ts';
import { layOutGraph } from './layout.ts';
import { scrapeProxies, type ProxyPod, type ProxySamples } from './proxy-scraper.ts';
import { buildL4, buildL7, buildObservedL7 } from './traffic.ts';

const CACHE_MS = 1000;
/** How far back latencies look. */
const WINDOW_MS = 20_000;
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

/** What the proxies said, and when. */
interface Reading {
  readonly at: number;
  readonly proxies: readonly ProxySamples[];
}

/** Counters of now; latencies since an earlier reading, where there is one. */
function describeTraffic({ at, proxies }: Reading, earlier?: Reading): object {
  const nodes = proxies.filter(({ proxy }) => proxy.waypoint === undefined);
  const l4 = buildL4(nodes.flatMap(({ samples }) => samples));
  const served = proxies.flatMap(({ proxy, samples }) => {
    const old = earlier?.proxies.find((each) => each.proxy.name === proxy.name)?.samples;
    return proxy.waypoint === undefined ? [] : buildL7(samples, proxy.waypoint, old);
  });
  const waypoints = new Set(proxies.flatMap(({ proxy }) => proxy.waypoint ?? []));
  const samplesOf = (all: readonly ProxySamples[]): Sample[] =>
    all.flatMap(({ proxy, samples }) => (proxy.waypoint === undefined ? samples : []));
  const l7 = [
    ...served,
    ...buildObservedL7(samplesOf(proxies), waypoints, samplesOf(earlier?.proxies ?? [])),
  ];
  return {
    at,
    l4: { edges: l4, graph: layOutGraph(l4) },
    l7: { edges: l7, graph: layOutGraph(l7) },
    proxies: proxies.map(({ proxy, isUp }) => ({ ...proxy, isUp })),
  };
}

/** Reads the proxies at most once a second, and remembers enough to tell recent latencies from old ones. */
class TrafficReader {
  readonly #sources: DashboardSources;
  #readings: Reading[] = [];
  #last: { readonly at: number; readonly traffic: Promise<object> } | undefined;

  constructor(sources: DashboardSources) {
    this.#sources = sources;
  }

  read(): Promise<object> {
    const now = this.#sources.clock.now();
    if (this.#last === undefined || now - this.#last.at >= CACHE_MS) {
      this.#last = { at: now, traffic: this.#scrape(now) };
    }
    return this.#last.traffic;
  }

  async #scrape(at: number): Promise<object> {
    const pods = proxyPods(this.#sources.pods().values(), this.#sources.rootNamespace);
    const reading = { at, proxies: await scrapeProxies(pods) };
    // A reading from before the page was last open says nothing of now.
    this.#readings = this.#readings.filter((each) => at - each.at <= WINDOW_MS);
    const earlier = this.#readings[0];
    this.#readings.push(reading);
    return describeTraffic(reading, earlier);
  }
}

/** The pages of the dashboard, by path. */
export function dashboardPages(sources: DashboardSources): Record<string, () => Promise<Page>> {
  const reader = new TrafficReader(sources);
  const file = (name: string, type: string): (() => Promise<Page>) => {
    const body = readFileSync(join(UI, name), 'utf8');
    return () => Promise.resolve({ type, body });
  };
  return {
    '/': file('index.html', 'text/html; charset=utf-8'),
    '/dashboard.js': file('dashboard.js', 'text/javascript; charset=utf-8'),
    '/dashboard.css': file('dashboard.css', 'text/css; charset=utf-8'),
    '/api/graph': async () => jsonPage(await reader.read()),
    '/api/policies': () => Promise.resolve(jsonPage(groupVerdicts(sources.verdicts()))),
  };
}
