// The proxy's own pod: tunnels are taken for it too, on a listener in the proxy's own network
// namespace, so that its metrics can be scraped through the mesh and policy holds for it. Nothing is redirected there.
import { errorMessage } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { Netns } from '../../engine/reactor/netns.ts';
import { openTcpListener } from '../../engine/reactor/socket-options.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import type { Config, OwnPod } from '../config.ts';
import type { DataThreads } from '../data-threads.ts';
import type { HolderClient } from '../holder/holder-client.ts';
import type { MeshModel } from '../state/model.ts';
import { HBONE_PORT } from './pod-sockets.ts';
import { OWN_UID_PREFIX } from './pod-starter.ts';

const UID = `${OWN_UID_PREFIX}self`;
const SOCKET = 'hbone';

/** What {@link serveOwnPod} works with. */
export interface OwnPodOptions {
  readonly data: Pick<DataThreads, 'request'>;
  /** Undefined: the socket lives and dies with this process. */
  readonly holder: HolderClient | undefined;
  /** Of the pod's record. */
  readonly model: Pick<MeshModel, 'expect'>;
  readonly logger: Logger;
}

/**
 * Takes tunnels from here on, where the configuration names the pod. Never rejects: pods are served also where the port
 * is taken, as it may be in the namespace of a node.
 */
export async function serveOwnPod(
  { ownPod, isIpv6 }: Pick<Config, 'ownPod' | 'isIpv6'>,
  { data, holder, model, logger }: OwnPodOptions,
): Promise<void> {
  if (ownPod === undefined) return;
  const { pod, identity } = ownPod;
  try {
    model.expect(pod);
    const fd = await listener(pod, holder, isIpv6);
    await addPod(data, ownPod, fd);
    logger.info({ identity }, 'taking tunnels for the proxy itself');
  } catch (err) {
    logger.warn({ identity, err: errorMessage(err) }, 'no tunnels for the proxy itself');
  }
}

async function addPod(
  data: OwnPodOptions['data'],
  { pod, identity: ownIdentity }: OwnPod,
  fd: number,
): Promise<void> {
  const netns = Netns.own();
  try {
    const sockets = [{ port: HBONE_PORT, fd }];
    await data.request({ kind: 'addPod', uid: UID, pod, netnsFd: netns.fd, sockets, ownIdentity });
  } finally {
    netns.close();
  }
}

/** The holder's, or a new one that it keeps from now on. */
async function listener(
  pod: PodInfo,
  holder: HolderClient | undefined,
  isIpv6: boolean,
): Promise<number> {
  const held = await holder?.take(UID);
  const taken = held?.fds.get(SOCKET);
  if (taken !== undefined) return taken;
  const { fd } = openTcpListener({ address: isIpv6 ? '::' : '0.0.0.0', port: HBONE_PORT });
  try {
    await holder?.keep({ uid: UID, netnsId: '', pod, names: [SOCKET] }, [fd]);
  } catch (err) {
    closeDescriptor(fd);
    throw err;
  }
  return fd;
}
