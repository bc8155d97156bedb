// Starts and stops pods for the ZDS session: sockets from the holder or made new, then the data thread.
import { MeshError } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import type { DataThreads } from '../data-threads.ts';
import type { HolderClient, TakenPod } from '../holder/holder-client.ts';
import type { DnsProxy } from '../dns/dns-proxy.ts';
import { closeDnsSockets, dnsSocketName, dnsSocketsOf } from '../dns/dns-sockets.ts';
import type { DnsSocket } from '../dns/dns-sockets.ts';
import { closePodSockets, openPodSockets } from './pod-sockets.ts';
import type { PodSocket, PodSocketOptions } from './pod-sockets.ts';
import { adoptNetns } from './pod-source.ts';
import type { PodNetns } from './pod-source.ts';
import type { PodActions, PodRegistry } from './zds-session.ts';

/** Names of held descriptors that do not belong to a pod start with this. */
export const OWN_UID_PREFIX = '.';
const NETNS_NAME = 'netns';
const TCP_PREFIX = 'tcp/';

/** What {@link PodStarter} works with. */
export interface PodStarterOptions {
  readonly data: DataThreads;
  readonly sockets: PodSocketOptions;
  /** Undefined: pods' DNS is not served. */
  readonly dns: DnsProxy | undefined;
  /** Undefined: sockets live and die with this process. */
  readonly holder: HolderClient | undefined;
  /** Its record will be needed. */
  readonly onStart: (pod: PodInfo) => void;
}

/** All sockets of a pod. */
interface SocketSet {
  readonly tcp: readonly PodSocket[];
  readonly dns: readonly DnsSocket[];
}

/** One for the process. */
export class PodStarter implements PodActions<PodNetns> {
  readonly #options: PodStarterOptions;
  /** Sockets that came with a restored pod, for its start. */
  readonly #restored = new Map<string, SocketSet>();

  constructor(options: PodStarterOptions) {
    this.#options = options;
  }

  async start(uid: string, pod: PodInfo, netns: PodNetns): Promise<void> {
    const { data, dns, onStart } = this.#options;
    onStart(pod);
    const sockets = await this.#sockets(uid, pod, netns);
    const netnsFd = netns.netns.fd;
    dns?.addPod(uid, pod, netnsFd, sockets.dns);
    try {
      await data.request({ kind: 'addPod', uid, pod, netnsFd, sockets: sockets.tcp });
    } catch (err) {
      dns?.removePod(uid);
      await this.#options.holder?.release(uid);
      throw err;
    }
  }

  async stop(uid: string): Promise<void> {
    this.#options.dns?.removePod(uid);
    await this.#options.data.request({ kind: 'removePod', uid });
    await this.#options.holder?.release(uid);
  }

  /** Starts what the proxy before this one served, so that no pod waits for the node agent. */
  async restore(registry: PodRegistry<PodNetns>): Promise<void> {
    const { holder } = this.#options;
    for (const uid of (await holder?.list()) ?? []) {
      if (uid.startsWith(OWN_UID_PREFIX)) continue;
      const taken = await holder?.take(uid);
      const netnsFd = taken?.fds.get(NETNS_NAME);
      if (taken === undefined || netnsFd === undefined) continue;
      this.#restored.set(uid, socketsOf(taken));
      await registry.restore(uid, taken.pod, adoptNetns(netnsFd));
    }
  }

  async #sockets(uid: string, pod: PodInfo, netns: PodNetns): Promise<SocketSet> {
    const restored = this.#restored.get(uid);
    this.#restored.delete(uid);
    if (restored !== undefined) return this.#withDns(restored, netns);
    const { holder } = this.#options;
    if (holder === undefined) return this.#open(netns);
    const held = await this.#take(holder, uid, netns.id);
    if (held !== undefined) return this.#withDns(held, netns);
    const opened = this.#open(netns);
    const names = [
      NETNS_NAME,
      ...opened.tcp.map(({ port }) => `${TCP_PREFIX}${port}`),
      ...opened.dns.map(dnsSocketName),
    ];
    const fds = [netns.netns.fd, ...[...opened.tcp, ...opened.dns].map(({ fd }) => fd)];
    if (await holder.keep({ uid, netnsId: netns.id, pod, names }, fds)) return opened;
    // A predecessor that still runs was faster. Two sets would split the connections.
    closeSockets(opened);
    const theirs = await this.#take(holder, uid, netns.id);
    if (theirs === undefined) throw new MeshError('holder_protocol', `${uid} is not held`);
    return this.#withDns(theirs, netns);
  }

  #open(netns: PodNetns): SocketSet {
    const tcp = openPodSockets(netns.netns, this.#options.sockets);
    try {
      return { tcp, dns: this.#options.dns?.openSockets(netns.netns) ?? [] };
    } catch (err) {
      closePodSockets(tcp);
      throw err;
    }
  }

  /** What an earlier proxy left may have been made with the DNS proxy off, or be for one that is off now. */
  #withDns(held: SocketSet, netns: PodNetns): SocketSet {
    const { dns } = this.#options;
    if (dns === undefined) closeDnsSockets(held.dns);
    else if (held.dns.length === 0) {
      try {
        return { ...held, dns: dns.openSockets(netns.netns) };
      } catch (err) {
        // The start is tried again, with new copies.
        closePodSockets(held.tcp);
        throw err;
      }
    }
    return held;
  }

  async #take(holder: HolderClient, uid: string, netnsId: string): Promise<SocketSet | undefined> {
    const taken = await holder.take(uid);
    if (taken === undefined) return undefined;
    const sockets = socketsOf(taken);
    closeNetns(taken);
    if (taken.netnsId === netnsId) return sockets;
    // The pod was made anew under the same uid.
    closeSockets(sockets);
    return undefined;
  }
}

function socketsOf(taken: TakenPod): SocketSet {
  const tcp = [...taken.fds]
    .filter(([name]) => name.startsWith(TCP_PREFIX))
    .map(([name, fd]) => ({ port: Number(name.slice(TCP_PREFIX.length)), fd }));
  return { tcp, dns: dnsSocketsOf(taken.fds) };
}

function closeSockets({ tcp, dns }: SocketSet): void {
  closePodSockets(tcp);
  closeDnsSockets(dns);
}

function closeNetns(taken: TakenPod): void {
  const fd = taken.fds.get(NETNS_NAME);
  if (fd !== undefined) closeDescriptor(fd);
}
