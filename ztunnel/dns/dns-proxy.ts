// The DNS proxy of the node: one set of sockets for each pod, one forwarder for all. On the control thread, which
// has the whole workload model. See docs/design/life-of-a-dns-query.md.
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/clock.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { SeriesTable } from '../../common/telemetry/series-table.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { Netns } from '../../engine/reactor/netns.ts';
import type { Config, DnsConfig } from '../config.ts';
import { DnsMetrics } from './dns-metrics.ts';
import { openDnsSockets } from './dns-sockets.ts';
import type { DnsSocket } from './dns-sockets.ts';
import { Forwarder } from './forwarder.ts';
import { PodDns } from './pod-dns.ts';
import type { DnsParts } from './query-handler.ts';
import { ResolvConfFile } from './upstream-servers.ts';

/** Queries end within the forwarder's deadline. */
const DRAIN_MS = 5000;

/** Options of {@link DnsProxy}. */
export interface DnsProxyOptions {
  readonly config: Pick<
    Config,
    'isIpv6' | 'isPortReuse' | 'packetMark' | 'resolvConf' | 'dedicatedPod'
  >;
  readonly dns: DnsConfig;
  readonly store: WorkloadStore;
  readonly table: SeriesTable;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** All pods' DNS. */
export class DnsProxy {
  readonly #options: DnsProxyOptions;
  readonly #parts: DnsParts;
  readonly #pods = new Map<string, PodDns>();

  constructor(options: DnsProxyOptions) {
    this.#options = options;
    const { config, dns, clock, store, logger, table } = options;
    const resolvConf = new ResolvConfFile(config.resolvConf, clock);
    this.#parts = {
      settings: {
        domain: dns.domain,
        isIpv6: config.isIpv6,
        preferredNamespace: dns.preferredNamespace,
        // The file is then that of the only pod.
        ...(config.dedicatedPod && { searchDomains: resolvConf.current.search }),
      },
      store,
      forwarder: new Forwarder({ servers: () => resolvConf.current.servers, clock }),
      metrics: new DnsMetrics(table),
      clock,
      logger,
      random: Math.random,
    };
  }

  /** Binds a pod's sockets; throws when one cannot be bound. They are for {@link addPod}, or a holder. */
  openSockets(netns: Netns): DnsSocket[] {
    const { config, dns } = this.#options;
    const { addresses, port } = dns;
    const { packetMark: mark, isPortReuse } = config;
    return openDnsSockets(netns, { addresses, port, mark, isPortReuse });
  }

  /** Serves a pod. The sockets are taken over, the netns stays the caller's. */
  addPod(uid: string, pod: PodInfo, netnsFd: number, sockets: readonly DnsSocket[]): void {
    this.removePod(uid);
    const netns = Netns.duplicate(netnsFd);
    const mark = this.#options.config.packetMark;
    this.#pods.set(uid, new PodDns(this.#parts, { pod, netns, mark }, sockets));
  }

  /** What a pod means by a name of the mesh; undefined: the name is none. */
  addressesOf(uid: string, hostname: string): readonly string[] | undefined {
    return this.#pods.get(uid)?.addressesOf(hostname);
  }

  /** Ends a pod's DNS now. */
  removePod(uid: string): void {
    this.#pods.get(uid)?.close();
    this.#pods.delete(uid);
  }

  /** Queries in flight are answered, then all sockets close. */
  async drain(): Promise<void> {
    const pods = [...this.#pods.values()];
    this.#pods.clear();
    const deadline = new AbortController();
    await Promise.race([
      Promise.all(pods.map((pod) => pod.drain())),
      sleep(this.#options.clock, DRAIN_MS, deadline.signal).catch(() => undefined),
    ]);
    deadline.abort(new Error('drained'));
    for (const pod of pods) pod.close();
  }
}
