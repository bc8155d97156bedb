// Who uses what, on request: live connections with bytes and age, and what each pod has used. Pure but for reading the
// pods; bounded, because a node may hold very many connections.
import type { LiveConnection, PodUse } from '../../common/admin/connections.ts';
import type { ConnectionDetails, ConnectionQuery, ConnectionReport } from '../messages.ts';
import type { ConnectionManager } from './connection-manager.ts';
import type { LocalWorkload } from './local-workload.ts';

/** A pod as the report needs it. */
export interface ReportedPod {
  readonly uid: string;
  readonly local: Pick<LocalWorkload, 'pod'>;
  readonly connections: ConnectionManager;
  readonly use: PodLoad;
}

/** What a pod uses besides its connections. */
export interface PodLoad {
  /** TLS handshakes in progress, and since the pod joined. */
  readonly handshakes: number;
  readonly handshakesTotal: number;
  /** Tunnel connections from other proxies. */
  readonly tunnels: number;
  /** Requests over tunnels that wait for their turn. */
  readonly waiting: number;
  /** Connections refused because of a limit. */
  readonly limitedTotal: number;
  /** Connections accepted while the pod was held to a rate; see new-connection-pace.ts. */
  readonly delayedTotal: number;
}

/** Rough weights for an estimate, measured as in docs/performance.md. */
const CONNECTION_BYTES = 12_288;
const TUNNEL_BYTES = 65_536;
const CONNECTION_MS = 0.15;
const HANDSHAKE_MS = 0.8;
const MS_PER_BYTE = 1e3 / 4e8;

const bytesOf = ({ bytesReceived, bytesSent }: ConnectionDetails): number =>
  bytesReceived + bytesSent;

/** What the first come first by. */
const RANKS: Readonly<Record<ConnectionQuery['sort'], (details: ConnectionDetails) => number>> = {
  bytes: bytesOf,
  age: ({ ageMs }) => ageMs,
  rate: (details) => bytesOf(details) / Math.max(1, details.ageMs),
};

/** Reads the pods. Those that use most come first, by live connections, then bytes. */
export function reportConnections(
  pods: readonly ReportedPod[],
  query: ConnectionQuery,
  nowMs: number,
): ConnectionReport {
  const wanted = pods.filter(
    ({ local: { pod } }) => query.pod === undefined || query.pod === `${pod.namespace}/${pod.name}`,
  );
  const top = new TopEntries(query.top, RANKS[query.sort]);
  let connectionCount = 0;
  for (const { uid, local, connections } of wanted) {
    connectionCount += connections.size;
    // Each scrape of the metrics asks for the pods alone.
    if (query.top === 0) continue;
    const pod = `${local.pod.namespace}/${local.pod.name}`;
    for (const details of connections.details(nowMs)) top.add({ pod, uid, ...details });
  }
  return {
    pods: wanted.map(useOf).sort(byUse),
    connections: top.sorted(),
    connectionCount,
  };
}

/** What several data threads reported of the same pods, as one. */
export function mergeReports(
  reports: readonly ConnectionReport[],
  query: ConnectionQuery,
): ConnectionReport {
  const [only, ...others] = reports;
  if (only !== undefined && others.length === 0) return only;
  const top = new TopEntries(query.top, RANKS[query.sort]);
  const uses = new Map<string, PodUse>();
  for (const { pods, connections } of reports) {
    for (const entry of connections) top.add(entry);
    for (const use of pods) {
      const known = uses.get(use.uid);
      uses.set(use.uid, known === undefined ? use : addUse(known, use));
    }
  }
  return {
    pods: [...uses.values()].sort(byUse),
    connections: top.sorted(),
    connectionCount: reports.reduce((sum, { connectionCount }) => sum + connectionCount, 0),
  };
}

function byUse(a: PodUse, b: PodUse): number {
  return (
    b.inbound + b.outbound - a.inbound - a.outbound ||
    b.bytesReceived + b.bytesSent - a.bytesReceived - a.bytesSent
  );
}

function addUse(a: PodUse, b: PodUse): PodUse {
  return {
    ...a,
    inbound: a.inbound + b.inbound,
    outbound: a.outbound + b.outbound,
    openedTotal: a.openedTotal + b.openedTotal,
    limitedTotal: a.limitedTotal + b.limitedTotal,
    delayedTotal: a.delayedTotal + b.delayedTotal,
    handshakes: a.handshakes + b.handshakes,
    handshakesTotal: a.handshakesTotal + b.handshakesTotal,
    tunnels: a.tunnels + b.tunnels,
    waiting: a.waiting + b.waiting,
    cpuMs: a.cpuMs + b.cpuMs,
    memoryBytes: a.memoryBytes + b.memoryBytes,
    bytesReceived: a.bytesReceived + b.bytesReceived,
    bytesSent: a.bytesSent + b.bytesSent,
  };
}

function useOf({ uid, local: { pod }, connections, use }: ReportedPod): PodUse {
  const { received, sent } = connections.bytes();
  const inbound = connections.count('inbound');
  return {
    uid,
    name: pod.name,
    namespace: pod.namespace,
    serviceAccount: pod.serviceAccount,
    inbound,
    outbound: connections.size - inbound,
    openedTotal: connections.openedTotal,
    bytesReceived: received,
    bytesSent: sent,
    ...use,
    cpuMs: Math.round(
      connections.openedTotal * CONNECTION_MS +
        use.handshakesTotal * HANDSHAKE_MS +
        (received + sent) * MS_PER_BYTE,
    ),
    memoryBytes:
      connections.size * CONNECTION_BYTES + (use.tunnels + use.handshakes) * TUNNEL_BYTES,
  };
}

/** Keeps the highest; sorts only when twice as many as wanted have come. */
class TopEntries {
  readonly #limit: number;
  readonly #rank: (details: ConnectionDetails) => number;
  #entries: LiveConnection[] = [];

  constructor(limit: number, rank: (details: ConnectionDetails) => number) {
    this.#limit = limit;
    this.#rank = rank;
  }

  add(entry: LiveConnection): void {
    this.#entries.push(entry);
    if (this.#entries.length >= 2 * this.#limit + 64) this.#entries = this.sorted();
  }

  sorted(): LiveConnection[] {
    return this.#entries.toSorted((a, b) => this.#rank(b) - this.#rank(a)).slice(0, this.#limit);
  }
}
