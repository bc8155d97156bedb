// Finds the network namespace of a running pod: the one under the container runtime's netns directory that owns
// the pod's address. Works for every runtime that keeps named namespaces, and needs no view of its processes.
import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { basename, join } from 'node:path';
import { Netns } from '../../engine/reactor/netns.ts';

function ownsAddress(netns: Netns, ips: readonly string[]): boolean {
  return netns.runSync(() =>
    Object.values(networkInterfaces()).some((list) =>
      list?.some(({ address, internal }) => !internal && ips.includes(address)),
    ),
  );
}

/** The namespace that owns one of the addresses; the caller closes it. */
export function findPodNetns(dir: string, ips: readonly string[]): Netns | undefined {
  if (ips.length === 0) return undefined;
  for (const name of readdirSync(dir)) {
    let netns: Netns;
    try {
      netns = Netns.open(join(dir, name));
    } catch {
      continue;
    }
    try {
      if (ownsAddress(netns, ips)) return netns;
    } catch {
      // A name whose namespace is being made or removed.
    }
    netns.close();
  }
  return undefined;
}

/** Opens the namespace a CNI event names, through the agent's mount of the node's netns directory. */
export function openEventNetns(dir: string, path: string): Netns {
  return Netns.open(join(dir, basename(path)));
}
