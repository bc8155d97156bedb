// An application tunnel: dialled on loopback, told its client by PROXY protocol.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, it } from 'node:test';
import {
  ApplicationTunnel_Protocol,
  TunnelProtocol,
} from '../../common/workload/gen/workload_pb.ts';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const VIP = '10.96.0.1';
const bytesOf = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();
/** A pod of the mesh itself, whose node proxy takes the tunnels. */
const WAYPOINT = {
  destination: { case: 'address', value: { network: '', address: bytesOf('10.77.0.7') } },
  hboneMtlsPort: 15008,
} as const;
const IDENTITY = 'spiffe://cluster.local/ns/default/sa/client';

before(async () => {
  await mesh.start();
  mesh.addPod({ name: 'client', ip: '10.77.0.1', secondIp: 'fd77::1', node: 'a' });
  mesh.addPod({ name: 'outside', ip: '10.77.0.5', node: 'none' });
  mesh.addPod({ name: 'waypoint', ip: '10.77.0.7', node: 'b' });
  mesh.addPod({ name: 'tunnel', ip: '10.77.0.3', secondIp: 'fd77::3', node: 'b' });
  const application = mesh.script('tunnel', ['test/support/proxy-protocol-server.ts', 9000]);
  assert.ok(application.stdout);
  await once(application.stdout, 'data');
  await mesh.serve('client');
  await mesh.serve('waypoint');
  await mesh.startNode('a');
  await mesh.startNode('b');
  await mesh.putPod('client');
  await mesh.putPod('waypoint');
  await mesh.putPod('outside', { tunnelProtocol: TunnelProtocol.HBONE, waypoint: WAYPOINT });
  await mesh.putAddress('default/web.example.com', {
    type: {
      case: 'service',
      value: {
        ...{ name: 'web', namespace: 'default', hostname: 'web.example.com', waypoint: WAYPOINT },
        addresses: [{ network: '', address: bytesOf(VIP) }],
        ports: [{ servicePort: 8080, targetPort: 1 }],
      },
    },
  });
  await mesh.putPod('tunnel', {
    applicationTunnel: { protocol: ApplicationTunnel_Protocol.PROXY, port: 9000 },
  });
  for (const name of ['client', 'tunnel', 'waypoint']) {
    await mesh.enrol(name);
    await mesh.redirectAsAgent(name);
  }
});

after(() => mesh.close());

it('an application tunnel is dialled on loopback and told client, target and identity', async () => {
  const { stdout } = await mesh.ask('client', '10.77.0.3', 8080);
  const [header = '', source, line] = stdout.split(' ');
  assert.equal(line, 'hello\n');
  // A tunnel's own application: the real client is in the header alone.
  assert.equal(source, '127.0.0.1');
  const body = Buffer.from(header, 'hex');
  assert.deepEqual([...body.subarray(0, 8)], [10, 77, 0, 1, 10, 77, 0, 3]);
  assert.equal(body.readUInt16BE(10), 8080);
  assert.equal(body.subarray(12, 15).toString('hex'), `d000${IDENTITY.length.toString(16)}`);
  assert.equal(body.subarray(15).toString(), IDENTITY);
});

it('over IPv6 it is dialled from loopback to loopback of that family', async () => {
  const { stdout } = await mesh.ask('client', 'fd77::3', 8080);
  const [header = '', source, line] = stdout.split(' ');
  assert.deepEqual([source, line], ['::1', 'hello\n']);
  const ip = (last: number): string => `fd77${'0'.repeat(27)}${last}`;
  assert.equal(header.slice(0, 64), ip(1) + ip(3));
});

it('policy sees the port of the application tunnel, not the one that was asked for', async () => {
  const deny = (port: number): Promise<void> =>
    mesh.putPolicy('default/port', {
      ...{ name: 'port', namespace: 'default', scope: Scope.NAMESPACE, action: Action.DENY },
      rules: [{ clauses: [{ matches: [{ destinationPorts: [port] }] }] }],
    });
  const knock = (): Promise<string> =>
    mesh.knock('outside', '10.77.0.3', IDENTITY, '10.77.0.3:8080');
  await deny(8080);
  assert.equal(await knock(), '200');
  await deny(9000);
  assert.equal(await knock(), '401');
});

for (const [what, host] of [
  ['a service', VIP],
  ['a pod', '10.77.0.5'],
] as const) {
  it(`sandwich_waypoint_plain: a waypoint behind a node proxy gets what is for ${what}, in plaintext`, async () => {
    const { status, stdout } = await mesh.ask('client', host, 8080);
    assert.deepEqual([status, stdout], [0, 'waypoint saw 10.77.0.1: hello\n']);
    await eventually('both ends have its line', () =>
      ['a', 'b'].every((node) => mesh.log(node).includes(`"dst.hbone_addr":"${host}:8080"`)),
    );
  });
}

it('sandwich_waypoint_plain: what it is not the waypoint of is refused', async () => {
  const knock = (authority: string): Promise<string> =>
    mesh.knock('outside', '10.77.0.7', IDENTITY, authority);
  assert.equal(await knock(`${VIP}:8080`), '200');
  assert.equal(await knock('10.77.0.3:8080'), '400');
});
