// The CNI plugin `istio-cni` (CNI specification 1.1, chained): before a pod that must be in the mesh starts, the
// node agent has to have enrolled it. No npm packages: the runtime starts this for every pod. It never changes
// the result of the plugins before it.
import { text } from 'node:stream/consumers';
import {
  decideEligibility,
  DEFAULT_SELECTORS,
  type EnablementSelector,
} from '../rules/eligibility.ts';
import { maskOf, type CniIpConfig } from '../rules/event.ts';
import { callAgent } from './agent-call.ts';
import { lookUpPod } from './api-lookup.ts';

const SUPPORTED_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'];
const AGENT_POD_PREFIX = 'istio-cni-node-';
const DEFAULT_RUN_DIR = '/var/run/istio-cni';
/** CNI error codes: 4 invalid environment, 6 decoding failure, 7 invalid configuration, 11 try again later. */
const CODE_ENVIRONMENT = 4;
const CODE_DECODE = 6;
const CODE_CONFIG = 7;
const CODE_TRY_AGAIN = 11;

interface PluginConfig {
  readonly cniVersion?: string;
  readonly prevResult?: {
    readonly ips?: readonly {
      readonly address: string;
      readonly gateway?: string;
      readonly interface?: number;
    }[];
  };
  readonly cni_agent_run_dir?: string;
  readonly exclude_namespaces?: readonly string[];
  readonly pod_namespace?: string;
  readonly enablement_selectors?: readonly EnablementSelector[];
}

class PluginError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

type Variables = Readonly<Record<string, string | undefined>>;

function parseArgs(args: string): Record<string, string> {
  return Object.fromEntries(
    args.split(';').map((pair) => {
      const at = pair.indexOf('=');
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

function ipConfigs(config: PluginConfig): CniIpConfig[] {
  return (config.prevResult?.ips ?? []).map(({ address, gateway, interface: index }) => {
    const [ip = '', prefix = ''] = address.split('/');
    return {
      ...(index === undefined ? {} : { Interface: index }),
      Address: { IP: ip, Mask: maskOf(Number(prefix), ip.includes(':')) },
      ...(gateway === undefined ? {} : { Gateway: gateway }),
    };
  });
}

async function enrol(config: PluginConfig, env: Variables): Promise<void> {
  const args = parseArgs(env['CNI_ARGS'] ?? '');
  const name = args['K8S_POD_NAME'] ?? '';
  const namespace = args['K8S_POD_NAMESPACE'] ?? '';
  if (name === '' || namespace === '') return;
  const systemNamespace = config.pod_namespace ?? 'istio-system';
  const excludedNamespaces = config.exclude_namespaces ?? [];
  if (namespace === systemNamespace && name.startsWith(AGENT_POD_PREFIX)) return;
  if (excludedNamespaces.includes(namespace)) return;
  const runDir = config.cni_agent_run_dir ?? DEFAULT_RUN_DIR;
  const { pod, namespaceLabels } = await lookUpPod(
    `${runDir}/istio-cni-kubeconfig`,
    namespace,
    name,
  );
  const selectors = config.enablement_selectors ?? DEFAULT_SELECTORS;
  const options = { systemNamespace, excludedNamespaces, selectors };
  if (!decideEligibility(pod, namespaceLabels, options).isEligible) return;
  const netns = env['CNI_NETNS'] ?? '';
  if (netns === '') throw new PluginError(CODE_ENVIRONMENT, 'CNI_NETNS is required');
  await callAgent(`${runDir}/pluginevent.sock`, {
    Netns: netns,
    PodName: name,
    PodNamespace: namespace,
    IPs: ipConfigs(config),
  });
}

function parseConfig(input: string): PluginConfig {
  try {
    return JSON.parse(input) as PluginConfig;
  } catch {
    throw new PluginError(CODE_DECODE, 'the network configuration is not JSON');
  }
}

async function add(input: string, env: Variables): Promise<string> {
  const config = parseConfig(input);
  if (config.prevResult === undefined) {
    throw new PluginError(CODE_CONFIG, 'this plugin must be chained: prevResult is missing');
  }
  try {
    await enrol(config, env);
  } catch (err) {
    if (err instanceof PluginError) throw err;
    throw new PluginError(CODE_TRY_AGAIN, err instanceof Error ? err.message : String(err));
  }
  return JSON.stringify({ cniVersion: config.cniVersion ?? '1.0.0', ...config.prevResult });
}

/** Executes one CNI command; returns what goes to stdout. */
async function execute(command: string, input: string, env: Variables): Promise<string> {
  switch (command) {
    case 'ADD':
      return add(input, env);
    // The agent learns of a pod's end from the API; there is nothing of ours to check or collect.
    case 'DEL':
    case 'CHECK':
    case 'GC':
    case 'STATUS':
      return '';
    case 'VERSION':
      return JSON.stringify({ cniVersion: '1.1.0', supportedVersions: SUPPORTED_VERSIONS });
    default:
      throw new PluginError(CODE_ENVIRONMENT, `unknown CNI_COMMAND "${command}"`);
  }
}

if (process.argv.includes('--help')) {
  process.stdout.write('istio-cni: a chained CNI plugin; started by the container runtime\n');
  process.exit(0);
}
try {
  const input = await text(process.stdin);
  process.stdout.write(await execute(process.env['CNI_COMMAND'] ?? '', input, process.env));
  process.exitCode = 0;
} catch (err) {
  const code = err instanceof PluginError ? err.code : CODE_TRY_AGAIN;
  const msg = err instanceof Error ? err.message : String(err);
  process.stdout.write(JSON.stringify({ cniVersion: '1.0.0', code, msg }));
  process.exitCode = 1;
}
