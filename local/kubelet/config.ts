// The kubelet's flags, and what the supervisor hands to the process of each node.
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { MeshError } from '../../common/errors.ts';
import type { NodeIpv6 } from '../ipv6.ts';

export const HELP = `Plays Kubernetes nodes on this machine: a network namespace for each node and pod.

  --kubeconfig FILE      the API server and the credentials to use (required)
  --state DIR            state of this cluster, locked while it runs (default .ambient)
  --nodes A,B            node names (default ambient-a,ambient-b)
  --kubelet-token TOKEN  bearer token of the kubelet's HTTP server (default: random, also KUBELET_TOKEN)
  --kubelet-port PORT    port of that server on each node's address (default 10250)
  --service-cidr CIDR    routed from this machine to the first node (default 10.96.0.0/16)
  --cluster-dns ADDR     address of the cluster DNS (default 10.96.0.10)
  --cluster-domain NAME  (default cluster.local)
  --clean                remove what a killed run of this clone left behind, and exit
  --help`;

export interface KubeletConfig {
  readonly kubeconfig: string;
  readonly stateDir: string;
  readonly nodes: readonly string[];
  readonly kubeletToken: string;
  readonly kubeletPort: number;
  readonly serviceCidr: string;
  readonly clusterDns: string;
  readonly clusterDomain: string;
  readonly cleanOnly: boolean;
}

/** What one node's process needs to know; sent to it as JSON in its only argument. */
export interface NodeConfig {
  readonly name: string;
  readonly kubeconfig: string;
  /** Address and port on the bridge that lead to the API server. */
  readonly api: { readonly host: string; readonly port: number };
  readonly stateDir: string;
  /** This node's own directory under the state directory. */
  readonly dir: string;
  /** Suffix of every netns name of this instance: empty for the first one on the machine. */
  readonly suffix: string;
  readonly instance: number;
  readonly address: string;
  readonly podCidr: string;
  readonly gateway: string;
  /** Undefined on a machine without IPv6. */
  readonly ipv6: NodeIpv6 | undefined;
  readonly kubeletToken: string;
  readonly kubeletPort: number;
  readonly serviceCidr: string;
  readonly clusterDns: string;
  readonly clusterDomain: string;
}

/** Parses the command line; undefined asks for the help text. */
export function parseFlags(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): KubeletConfig | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      kubeconfig: { type: 'string' },
      state: { type: 'string', default: '.ambient' },
      nodes: { type: 'string', default: 'ambient-a,ambient-b' },
      'kubelet-token': { type: 'string' },
      'kubelet-port': { type: 'string', default: '10250' },
      'service-cidr': { type: 'string', default: '10.96.0.0/16' },
      'cluster-dns': { type: 'string', default: '10.96.0.10' },
      'cluster-domain': { type: 'string', default: 'cluster.local' },
      clean: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  if (values.kubeconfig === undefined && !values.clean) {
    throw new MeshError('invalid_config', '--kubeconfig is required');
  }
  const nodes = values.nodes.split(',').filter((name) => name !== '');
  const bad = nodes.find((name) => !/^[a-z0-9][a-z0-9-]{0,40}$/.test(name));
  if (bad !== undefined || nodes.length === 0 || nodes.length > 32) {
    throw new MeshError('invalid_config', `--nodes needs 1 to 32 names, not "${values.nodes}"`);
  }
  return {
    kubeconfig: resolve(values.kubeconfig ?? ''),
    stateDir: resolve(values.state),
    nodes,
    kubeletToken:
      values['kubelet-token'] ?? env['KUBELET_TOKEN'] ?? randomBytes(16).toString('hex'),
    kubeletPort: Number(values['kubelet-port']),
    serviceCidr: values['service-cidr'],
    clusterDns: values['cluster-dns'],
    clusterDomain: values['cluster-domain'],
    cleanOnly: values.clean,
  };
}
