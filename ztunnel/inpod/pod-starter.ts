// Starts and stops pods for the ZDS session: sockets from the holder or made new, then the data thread.
import { MeshError } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import type { DataThread } from '../data-handle.ts';
import type { HolderClient, TakenPod } from '../holder/holder-client.ts';
import { closePodSockets, openPodSockets } from './pod-sockets.ts';
import type { PodSocket, PodSocketOptions } from './pod-sockets.ts';
import { adoptNetns } from './zds-client.ts';
import type { PodNetns } from './zds-client.ts';
import type { PodActions, PodRegistry } from './zds-session.ts';

/** Names of held descriptors that do not belong to a pod start with this. */
export const OWN_UID_PREFIX = '.';
const NETNS_NAME = 'netns';
const TCP_PREFIX = 'tcp/';

/** What {@link PodStarter} works with. */
export interface PodStarterOptions {
  readonly data: DataThread;
  readonly sockets: PodSocketOptions;
  /** Undefined: sockets live and die with this process. */
  readonly holder: HolderClient | undefined;
}

/** One for the process. */
export class PodStarter implements PodActions<PodNetns> {
  readonly #options: PodStarterOptions;
  /** Sockets that came with a restored pod, for its start. */
  readonly #restored = new Map<string, readonly PodSocket[]>();

  constructor(options: PodStarterOptions) {
    this.#options = options;
  }

  async start(uid: string, pod: PodInfo, netns: PodNetns): Promise<void> {
    const sockets = await this.#sockets(uid, pod, netns);
    try {
      const netnsFd = netns.netns.fd;
      await this.#options.data.request({ kind: 'addPod', uid, pod, netnsFd, sockets });
    } catch (err) {
      await this.#options.holder?.release(uid);
      throw err;
    }
  }

  async stop(uid: string): Promise<void> {
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

  async #sockets(uid: string, pod: PodInfo, netns: PodNetns): Promise<readonly PodSocket[]> {
    const restored = this.#restored.get(uid);
    this.#restored.delete(uid);
    if (restored !== undefined) return restored;
    const { holder, sockets: options } = this.#options;
    if (holder === undefined) return openPodSockets(netns.netns, options);
    const held = await this.#take(holder, uid, netns.id);
    if (held !== undefined) return held;
    const opened = openPodSockets(netns.netns, options);
    const names = [NETNS_NAME, ...opened.map(({ port }) => `${TCP_PREFIX}${port}`)];
    const fds = [netns.netns.fd, ...opened.map(({ fd }) => fd)];
    if (await holder.keep({ uid, netnsId: netns.id, pod, names }, fds)) return opened;
    // A predecessor that still runs was faster. Two sets would split the connections.
    closePodSockets(opened);
    const theirs = await this.#take(holder, uid, netns.id);
    if (theirs === undefined) throw new MeshError('holder_protocol', `${uid} is not held`);
    return theirs;
  }

  async #take(
    holder: HolderClient,
    uid: string,
    netnsId: string,
  ): Promise<readonly PodSocket[] | undefined> {
    const taken = await holder.take(uid);
    if (taken === undefined) return undefined;
    const sockets = socketsOf(taken);
    closeNetns(taken);
    if (taken.netnsId === netnsId) return sockets;
    // The pod was made anew under the same uid.
    closePodSockets(sockets);
    return undefined;
  }
}

function socketsOf(taken: TakenPod): PodSocket[] {
  return [...taken.fds]
    .filter(([name]) => name.startsWith(TCP_PREFIX))
    .map(([name, fd]) => ({ port: Number(name.slice(TCP_PREFIX.length)), fd }));
}

function closeNetns(taken: TakenPod): void {
  const fd = taken.fds.get(NETNS_NAME);
  if (fd !== undefined) closeDescriptor(fd);
}
