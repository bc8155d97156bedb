// Every path between two pods, each by the name that Istio's tests have for it: the application is reached and sees whom it
// should see, a server may speak and end first, a client may end first, and bulk data arrives whole both ways. So many bytes:
// TRANSFER_BYTES (256 MB); `npm run test:gigabyte` takes one gigabyte, `npm run soak -- checksum` ten.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { TunnelProtocol } from '../../common/workload/gen/workload_pb.ts';
import { NODE_LOCAL_EXTENSION } from '../../common/workload/extensions.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { serveChecksums, transfer } from '../support/checked-transfer.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';
import { startWaypoint } from '../support/netns-waypoint.ts';

const mesh = new NetnsMesh();
const BYTES = Number(process.env['TRANSFER_BYTES'] ?? 256_000_000);
const END_FIRST = 8083;
const TARGET_PORTS = { 8080: 8080, 8082: 8082, [END_FIRST]: END_FIRST };
const PORTS = {
  ports: Object.values(TARGET_PORTS).map((port) => ({ servicePort: port, targetPort: port })),
};
const HBONE_PORT = { ports: [{ servicePort: 15008, targetPort: 15008 }] };
const IP = {
  ...{ client: '10.77.0.1', near: '10.77.0.2', tunneled: '10.77.0.3', server: '10.77.0.4' },
  ...{ shielded: '10.77.0.5', outside: '10.77.0.6', far: '10.77.0.7' },
  ...{ waypoint: '10.77.0.8', gateway: '10.77.0.9' },
} as const;
type Pod = keyof typeof IP;
const NODE: Readonly<Record<Pod, string>> = {
  ...{ client: 'a', near: 'a', tunneled: 'a', server: 'b', shielded: 'b', far: 'c' },
  ...{ outside: 'none', waypoint: 'none', gateway: 'none' },
};
const SERVERS = ['near', 'tunneled', 'server', 'shielded', 'outside', 'far'] as const;
const CAPTURED = ['client', 'near', 'tunneled', 'server', 'shielded', 'far'] as const;
const WAYPOINT = { host: 'waypoint.default.svc.cluster.local', vip: '10.96.0.1' };
const SHIELDED = { host: 'shielded.default.svc.cluster.local', vip: '10.96.0.2' };
const FAR = { host: 'far.default.svc.cluster.local', vip: '10.96.0.3' };
const bytesOf = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();
const gatewayAt = (ip: string, network: string) =>
  ({
    destination: { case: 'address', value: { network, address: bytesOf(ip) } },
    hboneMtlsPort: 15008,
  }) as const;

interface Path {
  readonly name: string;
  readonly from: Pod;
  readonly host: string;
  /** Who answers, and whom it sees. */
  readonly server: Pod;
  readonly sees: Pod;
  /** What the source's node proxy counts it as; undefined: there is none. */
  readonly policy?: 'mutual_tls' | 'node_local' | 'unknown';
}

const PATHS: readonly Path[] = [
  {
    ...{ name: 'cross_node_captured_inpod', from: 'client', host: IP.server, server: 'server' },
    ...{ sees: 'client', policy: 'mutual_tls' },
  },
  {
    ...{ name: 'local_captured_inpod', from: 'client', host: IP.tunneled, server: 'tunneled' },
    ...{ sees: 'client', policy: 'mutual_tls' },
  },
  {
    ...{ name: 'the same-node path', from: 'client', host: IP.near, server: 'near' },
    ...{ sees: 'client', policy: 'node_local' },
  },
  {
    ...{ name: 'server_uncaptured_inpod', from: 'client', host: IP.outside, server: 'outside' },
    ...{ sees: 'client', policy: 'unknown' },
  },
  {
    ...{ name: 'client_uncaptured_inpod', from: 'outside', host: IP.server, server: 'server' },
    sees: 'outside',
  },
  {
    ...{ name: 'service_waypoint', from: 'client', host: SHIELDED.vip, server: 'shielded' },
    ...{ sees: 'waypoint', policy: 'mutual_tls' },
  },
  {
    ...{ name: 'double_hbone', from: 'client', host: FAR.vip, server: 'far' },
    ...{ sees: 'gateway', policy: 'mutual_tls' },
  },
];

/** What each server that ends first has got, line by line. */
const got = new Map<string, string>();

async function startServers(pod: Pod): Promise<void> {
  await mesh.serve(pod);
  await serveChecksums(mesh, pod);
  const child: ChildProcess = mesh.script(pod, ['test/support/end-first-server.ts', END_FIRST]);
  child.stdout?.on('data', (chunk: Buffer) =>
    got.set(pod, (got.get(pod) ?? '') + chunk.toString()),
  );
  await eventually('it listens', () => got.get(pod)?.includes('listening') === true);
}

async function putService({ host, vip }: typeof FAR, more: object = {}): Promise<void> {
  const name = host.split('.')[0] ?? '';
  const addresses = [{ network: 'here', address: bytesOf(vip) }];
  const value = { name, namespace: 'default', hostname: host, addresses, ...PORTS, ...more };
  await mesh.putAddress(`default/${host}`, { type: { case: 'service', value } });
}

async function publish(): Promise<void> {
  const memberOf = (host: string): object => ({ services: { [`default/${host}`]: PORTS } });
  const here = { network: 'here' };
  const there = { network: 'there' };
  const isLocal = { extensions: [{ name: NODE_LOCAL_EXTENSION }] };
  await putService(WAYPOINT, HBONE_PORT);
  await putService(FAR);
  await putService(SHIELDED, { waypoint: gatewayAt(IP.waypoint, 'here') });
  await mesh.putPod('waypoint', {
    ...here,
    services: { [`default/${WAYPOINT.host}`]: HBONE_PORT },
  });
  await mesh.putPod('gateway', there);
  await mesh.putPod('client', { ...here, ...isLocal });
  await mesh.putPod('near', { ...here, ...isLocal });
  await mesh.putPod('tunneled', here);
  await mesh.putPod('server', here);
  await mesh.putPod('shielded', { ...here, ...memberOf(SHIELDED.host) });
  await mesh.putPod('outside', { ...here, tunnelProtocol: TunnelProtocol.NONE });
  const networkGateway = gatewayAt(IP.gateway, 'there');
  await mesh.putPod('far', { ...there, networkGateway, ...memberOf(FAR.host) });
}

before(async () => {
  await mesh.start();
  for (const name of Object.keys(IP) as Pod[])
    mesh.addPod({ name, ip: IP[name], node: NODE[name] });
  await Promise.all(SERVERS.map(startServers));
  for (const [node, network] of [
    ['a', 'here'],
    ['b', 'here'],
    ['c', 'there'],
  ] as const) {
    mesh.proxyEnv['NETWORK'] = network;
    await mesh.startNode(node);
  }
  await publish();
  for (const name of CAPTURED) await mesh.enrol(name);
  await mesh.startGateway('gateway', 'spiffe://cluster.local/ns/default/sa/gateway', IP.far);
  const endpoint = { name: 'shielded', ip: IP.shielded };
  const { host: hostname, vip } = SHIELDED;
  const service = { hostname, vip, ports: TARGET_PORTS, endpoint };
  await startWaypoint(mesh, 'waypoint', service, mesh.writeFile('root.pem', mesh.root.certPem));
});

after(() => mesh.close());

for (const { name, from, host, server, sees, policy } of PATHS) {
  describe(name, () => {
    it('reaches the application, which sees whom it should', async () => {
      const opened = (): Promise<number> =>
        mesh.metric(
          ...(['a', 'istio_tcp_connections_opened_total', 'reporter="source"'] as const),
          `connection_security_policy="${policy ?? ''}"`,
        );
      const before = await opened();
      const { status, stdout } = await mesh.ask(from, host);
      assert.deepEqual([status, stdout], [0, `${server} saw ${IP[sees]}: hello\n`]);
      const expected = before + (policy === undefined ? 0 : 1);
      await eventually('it is counted once', async () => (await opened()) === expected);
    });

    it('server_first, half_close_server: the server speaks and ends first, the client is heard to its end', async () => {
      const heardBefore = got.get(server) ?? '';
      const args = ['test/support/end-second-client.ts', host, String(END_FIRST), '1000000'];
      const { heard, digest } = JSON.parse(await mesh.runScript(from, args)) as {
        heard: string;
        digest: string;
      };
      assert.equal(heard, 'first and last\n');
      const line = `1000000 ${digest}\n`;
      await eventually('the server has heard all', () => got.get(server) === heardBefore + line);
    });

    it('half_close_client, 1 GB: the client sends all and ends first, as much comes back, checksums are right', async () => {
      const { arrived, received, isRight } = await transfer(mesh, from, host, BYTES);
      assert.deepEqual([arrived, received, isRight], [BYTES, BYTES, true]);
    });
  });
}

describe('a waypoint', () => {
  const byHostname = {
    destination: { case: 'hostname', value: { namespace: 'default', hostname: WAYPOINT.host } },
    hboneMtlsPort: 15008,
  } as const;
  /** Nobody reaches the pod but through the waypoint. */
  const isThrough = async (host: string): Promise<void> => {
    const { status, stdout } = await mesh.ask('client', host);
    assert.deepEqual([status, stdout], [0, `shielded saw ${IP.waypoint}: hello\n`]);
  };

  it('service_waypoint_hostname: it is known by the name of its service', async () => {
    await putService(SHIELDED, { waypoint: byHostname });
    await isThrough(SHIELDED.vip);
  });

  for (const [how, waypoint] of [
    ['address', gatewayAt(IP.waypoint, 'here')],
    ['name', byHostname],
  ] as const) {
    it(`workload_waypoint: that of a pod, which is addressed itself, by ${how}`, async () => {
      await mesh.putPod('shielded', { network: 'here', waypoint });
      await isThrough(IP.shielded);
    });
  }

  it('service_waypoint_workload_hostname: that of a pod, known by a name of its own and no service', async () => {
    const hostname = 'waypoint.example.com';
    const destination = { case: 'hostname', value: { namespace: 'default', hostname } } as const;
    await mesh.putPod('shielded', {
      network: 'here',
      waypoint: { destination, hboneMtlsPort: 15008 },
    });
    // It is waited for: a waypoint may come a moment after what names it.
    const asked = isThrough(IP.shielded);
    await mesh.putPod('waypoint', { network: 'here', hostname });
    await asked;
  });
});
