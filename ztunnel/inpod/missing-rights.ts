// What this process may not do and pods need. Istio's ztunnel ends for it; here the log says so at the
// start, and each pod is refused with its reason, because a node that has no pods yet is served well.
import { canEnterNetns } from '../../engine/reactor/netns.ts';
import { canMark } from '../../engine/reactor/socket-options.ts';
import type { Config } from '../config.ts';

/** A line for each right that is missing; none in dedicated mode, which enters no namespace. */
export function missingRights({ dedicatedPod, packetMark }: Config): string[] {
  if (dedicatedPod !== undefined) return [];
  return [
    ...(canEnterNetns() ? [] : ['pods cannot be served: entering namespaces needs CAP_SYS_ADMIN']),
    ...(packetMark === undefined || canMark()
      ? []
      : ['pods cannot be served: SO_MARK needs CAP_NET_ADMIN']),
  ];
}
