// Redirection of one pod: puts rules and policy routing into its netns, weakens them for a pod that leaves,
// removes them.
import { readFileSync, writeFileSync } from 'node:fs';
import type { Netns } from '../../engine/reactor/netns.ts';
import {
  buildLeavingRules,
  buildPodRules,
  buildRemovalRules,
  policyRouting,
  type PodRulesOptions,
} from '../rules/pod-rules.ts';
import { loadRules, runIpBatch } from './netns-command.ts';

const ALREADY_THERE = /File exists/;
const NOT_THERE = /No such file|No such process|FIB table does not exist/;

function hasIpv6(netns: Netns): boolean {
  return netns.runSync(() => {
    try {
      return readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'utf8').trim() === '0';
    } catch {
      return false;
    }
  });
}

/** When one of two node proxies closes its listeners, what waits in their backlogs moves to the other (Linux 5.14). */
function migrateBacklogs(netns: Netns): void {
  try {
    netns.runSync(() => writeFileSync('/proc/sys/net/ipv4/tcp_migrate_req', '1'));
  } catch {
    // An older kernel, or a read-only /proc/sys: connections of the instant of an upgrade are reset.
  }
}

/** Redirects the pod's new connections to the node proxy. Safe to repeat. */
export async function applyRedirect(netns: Netns, options: PodRulesOptions): Promise<void> {
  const ipv6 = options.ipv6 && hasIpv6(netns);
  const { v4, v6 } = policyRouting('add');
  await runIpBatch(netns, '-4', v4, ALREADY_THERE);
  if (ipv6) await runIpBatch(netns, '-6', v6, ALREADY_THERE);
  await loadRules(netns, buildPodRules({ ...options, ipv6 }));
  migrateBacklogs(netns);
}

/** New connections go their own way; those that were redirected keep working. */
export async function weakenRedirect(netns: Netns): Promise<void> {
  await loadRules(netns, buildLeavingRules());
}

/** Removes everything of ours from the netns. */
export async function removeRedirect(netns: Netns): Promise<void> {
  await loadRules(netns, buildRemovalRules());
  const { v4, v6 } = policyRouting('del');
  await runIpBatch(netns, '-4', v4, NOT_THERE);
  if (hasIpv6(netns)) await runIpBatch(netns, '-6', v6, NOT_THERE);
}
