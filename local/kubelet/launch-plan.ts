// Puts together how a container is started: program, environment, file system.
import { mkdirSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { MeshError } from '../../common/errors.ts';
import { serviceIpv6 } from '../ipv6.ts';
import type { NodeConfig } from './config.ts';
import type { LaunchPlan } from './container.ts';
import { buildRootScript, type Mount } from './container-root.ts';
import { buildEnvironment, expand } from './environment.ts';
import type { NodeContext } from './node-context.ts';
import type { Container, Pod } from './objects.ts';
import { programPaths, REPOSITORY, resolveProgram } from './programs.ts';

export interface LaunchInputs {
  readonly context: NodeContext;
  readonly pod: Pod;
  readonly container: Container;
  /** The container's own directory. */
  readonly dir: string;
  readonly mounts: readonly Mount[];
  readonly netns: string | undefined;
  readonly podIps: readonly string[];
}

const PATH = [
  join(REPOSITORY, 'local/apps/bin'),
  '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
].join(':');

/** The pod's resolv.conf: the cluster's DNS with the search list Kubernetes gives. */
export function buildResolvConf(pod: Pod, clusterDns: string, domain: string): string {
  const namespace = pod.metadata.namespace ?? 'default';
  const search = [`${namespace}.svc.${domain}`, `svc.${domain}`, domain].join(' ');
  return `nameserver ${clusterDns}\nsearch ${search}\noptions ndots:5 timeout:2 attempts:3\n`;
}

/** The DNS address that a pod can reach: IPv6 for one without an IPv4 address. */
function dnsAddress({ clusterDns }: NodeConfig, podIps: readonly string[]): string {
  return podIps.every((ip) => isIPv6(ip)) ? serviceIpv6(clusterDns) : clusterDns;
}

function buildHosts(pod: Pod, podIps: readonly string[], hostname: string): string {
  const aliases = (pod.spec.hostAliases ?? []).map(
    ({ ip, hostnames = [] }) => `${ip} ${hostnames.join(' ')}`,
  );
  return [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    ...podIps.map((ip) => `${ip} ${hostname}`),
    ...aliases,
    '',
  ].join('\n');
}

/** Builds the plan; throws when the image has no program or configuration is missing. */
export async function planLaunch(inputs: LaunchInputs): Promise<LaunchPlan> {
  const { context, pod, container, podIps } = inputs;
  const program = resolveProgram(container, PATH);
  if (program === undefined) {
    const command = container.command?.[0];
    const what = command === undefined ? '' : ` and this machine has no command ${command}`;
    throw new MeshError('no_program', `no program plays image "${container.image ?? ''}"${what}`);
  }
  const hostname = pod.spec.hostname ?? pod.metadata.name;
  const base = {
    PATH,
    HOME: '/root',
    HOSTNAME: hostname,
    KUBERNETES_SERVICE_HOST: context.config.clusterDns.replace(/\.\d+$/, '.1'),
    KUBERNETES_SERVICE_PORT: '443',
    KUBERNETES_SERVICE_PORT_HTTPS: '443',
    NODE_COMPILE_CACHE: join(context.config.stateDir, 'compile-cache'),
    ...program.env,
  };
  const addresses = { podIps, hostIp: context.config.address };
  const env = await buildEnvironment(pod, container, base, addresses, context);
  const { clusterDomain } = context.config;
  const dir = join(inputs.dir, 'root');
  const cache = join(context.config.stateDir, 'compile-cache');
  for (const path of [dir, cache]) mkdirSync(path, { recursive: true });
  const script = buildRootScript({
    dir,
    hostname: inputs.netns === undefined ? context.config.name : hostname,
    resolvConf: buildResolvConf(pod, dnsAddress(context.config, podIps), clusterDomain),
    hosts: buildHosts(pod, podIps, hostname),
    mounts: inputs.mounts,
    visible: [...programPaths(), cache],
    workingDir: container.workingDir ?? '/',
  });
  return { argv: program.argv.map((word) => expand(word, env)), env, script, netns: inputs.netns };
}
