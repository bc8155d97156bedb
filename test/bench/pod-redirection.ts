// The redirection of a pod into its node proxy, the same for our proxy and the peer.
import { POD_RULES } from '../support/pod-rules.ts';
import type { PodName, Topology } from './topology.ts';
import { run } from './tools.ts';

/** Writes the rules; what the proxy sends with mark 0x539 passes. */
export function writePodRules(topology: Topology, pod: PodName): void {
  const exec = ['netns', 'exec', topology.netns(pod)];
  run('ip', [...exec, 'nft', '-f', '-'], POD_RULES);
  const ns = ['-n', topology.netns(pod)];
  run('ip', [...ns, 'rule', 'add', 'fwmark', '0x111/0xfff', 'pref', '32764', 'lookup', '100']);
  run('ip', [...ns, 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', '100']);
}
