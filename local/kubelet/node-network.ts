// The network between nodes: a bridge in the root netns, one netns a node joined to it by a veth pair, a route
// to each node's pods everywhere. All sysctls are set inside the namespaces; the machine's own stay untouched.
import { bridgeIpv6, hasIpv6, nodeIpv6, SERVICE_CIDR_V6, type NodeIpv6 } from '../ipv6.ts';
import { markNetns } from './cleanup.ts';
import { nodePortPrefix, type Instance } from './instance.ts';
import { ipBatch, runCommand, tryCommand } from './run-command.ts';

export interface NodeNetwork {
  readonly name: string;
  readonly netns: string;
  readonly address: string;
  readonly podCidr: string;
  readonly gateway: string;
  /** Undefined on a machine without IPv6. */
  readonly ipv6: NodeIpv6 | undefined;
}

/** The addresses of each node of an instance. */
export function planNodes(instance: Instance, nodes: readonly string[]): NodeNetwork[] {
  return nodes.map((name, index) => ({
    name,
    netns: `node-${name}${instance.suffix}`,
    address: `${instance.prefix}.255.${10 + index}`,
    podCidr: `${instance.prefix}.${index + 1}.0/24`,
    gateway: `${instance.prefix}.${index + 1}.1`,
    ipv6: hasIpv6() ? nodeIpv6(instance.number, index) : undefined,
  }));
}

/** The machine's address on the bridge. */
export function bridgeAddress(instance: Instance): string {
  return `${instance.prefix}.255.1`;
}

/** Settings every netns of ours gets: forwarding as wanted, no reverse path filter (proxies keep source addresses). */
export async function setSysctls(netns: string, forward: boolean): Promise<void> {
  const values = [
    `net/ipv4/ip_forward ${forward ? 1 : 0}`,
    'net/ipv4/conf/all/rp_filter 0',
    'net/ipv4/conf/default/rp_filter 0',
    // Unprivileged ports as in a container runtime: programs that drop root still bind port 80.
    'net/ipv4/ip_unprivileged_port_start 0',
    ...(hasIpv6()
      ? [
          `net/ipv6/conf/all/forwarding ${forward ? 1 : 0}`,
          'net/ipv6/conf/all/disable_ipv6 0',
          'net/ipv6/conf/default/disable_ipv6 0',
          // An address must be usable at once; nobody else can have it.
          'net/ipv6/conf/all/accept_dad 0',
          'net/ipv6/conf/default/accept_dad 0',
        ]
      : []),
  ];
  const script = values.map((line) => {
    const [key = '', value = ''] = line.split(' ');
    return `echo ${value} >/proc/sys/${key}`;
  });
  await runCommand(['ip', 'netns', 'exec', netns, 'sh', '-c', script.join('\n')]);
}

async function makeNode(
  instance: Instance,
  stateDir: string,
  node: NodeNetwork,
  index: number,
): Promise<void> {
  const port = `${nodePortPrefix(instance.number)}${index}`;
  markNetns(stateDir, node.netns);
  await runCommand(['ip', 'netns', 'add', node.netns]);
  await ipBatch([
    `link add ${port} type veth peer name eth0 netns ${node.netns}`,
    `link set ${port} master ${instance.bridge} up`,
  ]);
  await setSysctls(node.netns, true);
  await ipBatch(
    [
      'link set lo up',
      `addr add ${node.address}/24 dev eth0`,
      'link set eth0 up',
      `route add default via ${bridgeAddress(instance)}`,
    ],
    node.netns,
  );
  if (node.ipv6 === undefined) return;
  await ipBatch(
    [
      `addr add ${node.ipv6.address}/64 dev eth0 nodad`,
      `route add default via ${bridgeIpv6(instance.number)}`,
    ],
    node.netns,
  );
}

/** Routes between the nodes' pods, and from the machine where it lets us. */
async function routeIpv6(instance: Instance, nodes: readonly NodeNetwork[]): Promise<void> {
  const routes = nodes.flatMap(({ name, ipv6 }) =>
    ipv6 === undefined ? [] : [{ name, route: `route add ${ipv6.podCidr} via ${ipv6.address}` }],
  );
  if (routes.length === 0) return;
  const others = (self: string): string[] =>
    routes.filter(({ name }) => name !== self).map(({ route }) => route);
  await Promise.all(nodes.map(({ name, netns }) => ipBatch(others(name), netns)));
  // A machine may have IPv6 switched off for itself, and only one cluster can own the route to the services.
  const first = nodes[0]?.ipv6?.address ?? '';
  const own = [
    ['addr', 'add', `${bridgeIpv6(instance.number)}/64`, 'dev', instance.bridge, 'nodad'],
    ...others('').map((route) => route.split(' ')),
    ['-6', 'route', 'add', SERVICE_CIDR_V6, 'via', first],
  ];
  for (const argv of own) await tryCommand(['ip', ...argv]);
}

/** Makes the bridge's address and all nodes; routes services from the machine through the first node. */
export async function makeNodes(
  instance: Instance,
  stateDir: string,
  nodes: readonly NodeNetwork[],
  serviceCidr: string,
): Promise<void> {
  await ipBatch([
    `addr add ${bridgeAddress(instance)}/24 dev ${instance.bridge}`,
    `link set ${instance.bridge} up`,
  ]);
  await Promise.all(nodes.map((node, index) => makeNode(instance, stateDir, node, index)));
  const routesFor = (self: string): string[] =>
    nodes
      .filter((node) => node.address !== self)
      .map((node) => `route add ${node.podCidr} via ${node.address}`);
  await Promise.all(nodes.map((node) => ipBatch(routesFor(node.address), node.netns)));
  await ipBatch(routesFor(''));
  await routeIpv6(instance, nodes);
  const first = nodes[0];
  // Only one cluster on the machine can own the route to the service addresses; pods are always reachable.
  if (first) await tryCommand(['ip', 'route', 'add', serviceCidr, 'via', first.address]);
}
