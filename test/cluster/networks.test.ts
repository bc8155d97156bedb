// Two node proxies in two networks: a service whose endpoint is in the other one is reached through the network gateway,
// in two tunnels; the gateway sees only the outer one. A rollout of a service under load: no connection fails.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { ChildProcess } from 'node:child_process';
import { parseIp } from '../../common/workload/ip.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const GATEWAY_IP = '10.77.0.9';
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'far-server', ip: '10.77.0.3', node: 'b' },
  { name: 'gateway', ip: GATEWAY_IP, node: 'none' },
  ...[1, 2, 3, 4].map((at) => ({ name: `app-${at}`, ip: `10.77.0.1${at}`, node: 'a2' })),
];
const FAR = { host: 'far.default.svc.cluster.local', vip: '10.96.0.1' };
const APP = { host: 'app.default.svc.cluster.local', vip: '10.96.0.2' };
const PORTS = { ports: [{ servicePort: 80, targetPort: 8080 }] };
const bytesOf = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();
const gatewayAddress = {
  destination: { case: 'address', value: { network: 'far', address: bytesOf(GATEWAY_IP) } },
  hboneMtlsPort: 15008,
} as const;
let seenByGateway: () => string = () => '';

async function putService({ host, vip }: typeof FAR): Promise<void> {
  await mesh.putAddress(`default/${host}`, {
    type: {
      case: 'service',
      value: {
        name: host.split('.')[0] ?? '',
        namespace: 'default',
        hostname: host,
        addresses: [{ network: 'near', address: bytesOf(vip) }],
        ...PORTS,
      },
    },
  });
}

const NOTHING_NEW = `table inet ending {
  chain input {
    type filter hook input priority 0;
    tcp dport 8080 tcp flags & (syn | ack) == syn reject with tcp reset
  }
}`;

async function startApp(at: number): Promise<ChildProcess> {
  const name = `app-${at}`;
  const server = await mesh.serve(name);
  await mesh.enrol(name);
  await mesh.putPod(name, {
    network: 'near',
    services: { [`default/${APP.host}`]: PORTS },
  });
  return server;
}

/** New connections to a pod's application are refused, and it has accepted all that were there: at the end of a listener the
 * kernel resets those that nobody has accepted, which is no matter of a mesh. */
async function refuseNew(name: string): Promise<void> {
  mesh.applyRules(name, NOTHING_NEW);
  await eventually('none waits to be accepted', async () => {
    const { stdout } = await mesh.runProgram(name, 'ss', ['-Htln', 'sport = :8080']);
    return /^LISTEN +0 /.test(stdout);
  });
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.serve('far-server');
  const identity = 'spiffe://cluster.local/ns/default/sa/gateway';
  seenByGateway = await mesh.startGateway('gateway', identity, '10.77.0.3');
  mesh.proxyEnv['NETWORK'] = 'near';
  await mesh.startNode('a');
  await mesh.startNode('a2');
  mesh.proxyEnv['NETWORK'] = 'far';
  await mesh.startNode('b');
  await putService(FAR);
  await putService(APP);
  await mesh.putPod('gateway', { network: 'far' });
  await mesh.putPod('client', { network: 'near' });
  await mesh.putPod('far-server', {
    network: 'far',
    networkGateway: gatewayAddress,
    services: { [`default/${FAR.host}`]: PORTS },
    ...{ workloadName: 'far-deployment', canonicalName: 'far-service', canonicalRevision: 'v9' },
  });
  await mesh.enrol('client');
  await mesh.enrol('far-server');
});

after(() => mesh.close());

describe('networks', () => {
  it('a service in another network is reached through its gateway, in two tunnels', async () => {
    const { status, stdout } = await mesh.ask('client', FAR.vip, 80);
    assert.equal(stdout, `far-server saw ${GATEWAY_IP}: hello\n`);
    assert.equal(status, 0);
    assert.match(seenByGateway(), new RegExp(`^CONNECT ${FAR.host}:80$`, 'm'));
    const line = /\{[^\n]*"message":"connection complete"[^\n]*/;
    await eventually('both ends write their line', () => {
      return line.test(mesh.log('a')) && line.test(mesh.log('b'));
    });
    // The far end said who it is; the near end's address is not the client's.
    assert.partialDeepStrictEqual(JSON.parse(line.exec(mesh.log('a'))?.[0] ?? '{}'), {
      // The pod's own name is not in its baggage.
      'dst.workload': 'far-service',
      'dst.hbone_addr': `${FAR.host}:80`,
      'dst.identity': 'spiffe://cluster.local/ns/default/sa/far-server',
    });
    assert.partialDeepStrictEqual(JSON.parse(line.exec(mesh.log('b'))?.[0] ?? '{}'), {
      'src.workload': 'client',
      'src.identity': 'spiffe://cluster.local/ns/default/sa/client',
      'dst.service': FAR.host,
    });
    const principal = 'destination_principal="spiffe://cluster.local/ns/default/sa/far-server"';
    const labels = [
      ...[principal, 'destination_canonical_service="far-service"', 'destination_version="v9"'],
      ...['destination_workload="far-deployment"', 'destination_app="far-deployment"'],
    ];
    await eventually('it is counted', async () => {
      return (await mesh.metric('a', 'istio_tcp_connections_closed_total', ...labels)) === 1;
    });
    const query = `src=default/client&dst=${FAR.host}:80`;
    const why = (await (await mesh.admin('a', `/debug/why?${query}`)).json()) as object;
    assert.partialDeepStrictEqual(why, {
      isAllowed: true,
      decision: { path: 'double_tunnel', address: GATEWAY_IP, authority: `${FAR.host}:80` },
    });
  });

  it('each connection is in the dump of either end, with what was asked for and by which protocol it went', async () => {
    const of = async (node: string, uid: string): Promise<Record<string, unknown[]>> => {
      const { workloadState } = await mesh.configDump(node);
      const pods = workloadState as Record<string, { connections: Record<string, unknown[]> }>;
      return pods[uid]?.connections ?? {};
    };
    const count = async (): Promise<number> =>
      ((await of('a', 'client'))['outbound']?.length ?? 0) +
      ((await of('b', 'far-server'))['inbound']?.length ?? 0);
    await eventually('those before have ended', async () => (await count()) === 0);
    // One after the other: the dump has them in that order.
    const clients: ChildProcess[] = [];
    for (const [address, port] of [
      [FAR.vip, 80],
      ['10.77.0.3', 8080],
    ] as const) {
      const client = mesh.client('client', address, port);
      clients.push(client);
      client.stdin?.write('one\n');
      assert.match(await nextOutput(client), /far-server saw .*: one/);
    }
    assert.partialDeepStrictEqual(await of('a', 'client'), {
      outbound: [
        {
          ...{ originalDst: `${FAR.vip}:80`, actualDst: `${GATEWAY_IP}:15008` },
          protocol: 'DOUBLEHBONE',
        },
        { originalDst: '10.77.0.3:8080', actualDst: '10.77.0.3:8080', protocol: 'TCP' },
      ],
    });
    assert.partialDeepStrictEqual(await of('b', 'far-server'), {
      inbound: [
        { originalDst: FAR.host, actualDst: '10.77.0.3:8080', protocol: 'HBONE' },
        { originalDst: null, actualDst: '10.77.0.3:8080', protocol: 'TCP' },
      ],
    });
    for (const client of clients) client.stdin?.end();
  });

  it('a policy of the other network decides by the client’s identity', async () => {
    await mesh.putPolicy('default/nobody', {
      name: 'nobody',
      namespace: 'default',
      rules: [
        {
          clauses: [
            {
              matches: [
                {
                  principals: [{ matchType: { case: 'exact', value: 'cluster.local/ns/x/sa/y' } }],
                },
              ],
            },
          ],
        },
      ],
      scope: 1,
    });
    assert.equal((await mesh.ask('client', FAR.vip, 80)).status, 3);
    await mesh.putPolicy('default/nobody', undefined);
    assert.equal((await mesh.ask('client', FAR.vip, 80)).status, 0);
  });

  it('the far pod itself, by its address, is none of ours', async () => {
    // Its record is in another network: the address means nothing in this one.
    const opened = await mesh.metric('a', 'istio_tcp_connections_opened_total');
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    await eventually('it is passed through', async () => {
      return (await mesh.metric('a', 'istio_tcp_connections_opened_total')) > opened;
    });
    const plain = 'connection_security_policy="unknown"';
    assert.ok((await mesh.metric('a', 'istio_tcp_connections_opened_total', plain)) >= 1);
  });
});

describe('a rollout of the destination', () => {
  it('under new connections without end, the endpoints going later than their pods: none fails', async () => {
    let old = [await startApp(1), await startApp(2)];
    const load = mesh.load('client', APP.vip, 80);
    await load.more(50);
    for (const at of [3, 4]) {
      const next = await startApp(at);
      await load.more(20);
      // The application takes nothing new, finishes what it has and ends; the control plane says so only later.
      await refuseNew(`app-${at - 2}`);
      old[0]?.kill('SIGTERM');
      await load.more(40);
      await mesh.removeAddress(`app-${at - 2}`);
      await mesh.unenrol(`app-${at - 2}`);
      await load.more(20);
      old = [...old.slice(1), next];
    }
    const { served, failures } = await load.end();
    assert.deepEqual(failures, []);
    assert.ok(served > 150, `${served} were served`);
    const retries = await mesh.metric('a', 'ambient_connect_retries_total');
    assert.ok(retries > 0, 'nothing was ever tried again: the test shows nothing');
  });
});
