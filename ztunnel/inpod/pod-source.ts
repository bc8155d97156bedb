// Where a proxy's pods come from: the node's agent (zds-client.ts) or, in dedicated mode, the configuration
// (dedicated-pod.ts). Either feeds the registry; all behind it is the same.
import { Netns } from '../../engine/reactor/netns.ts';
import type { NetnsHandle } from './zds-session.ts';

/** A pod's namespace as the registry and the data thread use it. */
export interface PodNetns extends NetnsHandle {
  readonly netns: Netns;
}

/** Feeds the registry. */
export interface PodSource {
  /** Every pod there is to serve is served. */
  readonly isReady: boolean;
  /** Runs until {@link close}, or until the pods are there; rejects when they cannot be served at all. */
  run(): Promise<void>;
  /** Ends the source; pods stay as they are. */
  close(): void;
}

/** A handle that owns the namespace. */
export function podNetns(netns: Netns): PodNetns {
  return { netns, id: `${netns.device}:${netns.inode}`, close: () => netns.close() };
}

/** Takes over a descriptor of a namespace. */
export function adoptNetns(fd: number): PodNetns {
  return podNetns(Netns.adopt(fd));
}
