// XDS_ON_DEMAND with real pods: an address is asked for when a connection needs it, its absence is remembered, and a
// control plane that does not answer is named as the reason.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ADDRESS_TYPE_URL } from '../../common/workload/decode.ts';
import { TunnelProtocol } from '../../common/workload/gen/workload_pb.ts';
import type { DeltaDiscoveryRequest } from '../../common/xds/gen/discovery_pb.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const WEB = 'default/web.default.svc.cluster.local';
const VIP = '10.96.0.1';
const GATE = '10.77.0.5';
const bytesOf = (ip: string): Uint8Array => Uint8Array.from(ip.split('.').map(Number));
const uidOf = (name: string): string => `Kubernetes//Pod/default/${name}`;

/** A pod under the name that istiod gives it. */
function publish(name: string, ip: string, node: string, more: object = {}): Promise<void> {
  const value = {
    uid: uidOf(name),
    name,
    namespace: 'default',
    serviceAccount: name,
    addresses: [bytesOf(ip)],
    tunnelProtocol: TunnelProtocol.HBONE,
    node,
    workloadName: name,
    ...more,
  };
  return mesh.putAddress(uidOf(name), { type: { case: 'workload', value } });
}

before(async () => {
  mesh.proxyEnv['XDS_ON_DEMAND'] = 'true';
  mesh.proxyEnv['ISTIO_META_DNS_CAPTURE'] = 'false';
  await mesh.start();
  mesh.addPod({ name: 'client', ip: '10.77.0.1', node: 'a' });
  mesh.addPod({ name: 'server', ip: '10.77.0.3', node: 'b' });
  mesh.addPod({ name: 'late', ip: '10.77.0.4', node: 'b' });
  mesh.addPod({ name: 'gate', ip: '10.77.0.5', node: 'b' });
  mesh.addPod({ name: 'other', ip: '10.77.0.6', node: 'none' });
  mesh.addPod({ name: 'third', ip: '10.77.0.7', node: 'none' });
  mesh.addPod({ name: 'fourth', ip: '10.77.0.9', node: 'none' });
  for (const name of ['server', 'late', 'gate', 'other', 'third', 'fourth']) await mesh.serve(name);
  await mesh.startNode('a');
  await mesh.startNode('b');
  await mesh.putPods(50);
  const ports = [{ servicePort: 80, targetPort: 8080 }];
  await publish('client', '10.77.0.1', 'a');
  await publish('server', '10.77.0.3', 'b', { services: { [WEB]: { ports } } });
  await mesh.putAddress(WEB, {
    type: {
      case: 'service',
      value: {
        name: 'web',
        namespace: 'default',
        hostname: 'web.default.svc.cluster.local',
        addresses: [{ network: '', address: bytesOf(VIP) }],
        ports,
      },
    },
  });
  await mesh.enrol('client');
  await mesh.enrol('server');
  await publish('gate', GATE, 'b');
  await mesh.enrol('gate');
});

after(() => mesh.close());

const asked = (name: string): DeltaDiscoveryRequest[] =>
  mesh.requests.filter(({ resourceNamesSubscribe: names }) => names.includes(name));

async function known(): Promise<string[]> {
  const { workloads } = (await mesh.configDump('a')) as { workloads: { name: string }[] };
  return workloads.map(({ name }) => name).sort();
}

function isTunnelled(destination: string): Promise<number> {
  const labels = [`destination_workload="${destination}"`, 'mutual_tls', 'reporter="source"'];
  return mesh.metric('a', 'istio_tcp_connections_opened_total', ...labels);
}

describe('XDS_ON_DEMAND', () => {
  it('subscribes to nothing, is sent the pods of its node, and asks for what a pod dials', async () => {
    const first = mesh.requests.find(({ typeUrl }) => typeUrl === ADDRESS_TYPE_URL);
    assert.deepEqual(first?.resourceNamesSubscribe, ['*']);
    assert.deepEqual(first.resourceNamesUnsubscribe, ['*']);
    assert.deepEqual(await known(), ['client']);
    assert.equal((await mesh.ask('client', VIP, 80)).stdout, 'server saw 10.77.0.1: hello\n');
    assert.equal(asked(`/${VIP}`).length, 1);
    assert.deepEqual(await known(), ['client', 'server'], 'none of the others');
    await eventually('through a tunnel', async () => (await isTunnelled('server')) === 1);
  });

  it('passes by what nobody has, asks once, and hears when it comes to be', async () => {
    assert.equal((await mesh.ask('client', '10.77.0.4')).stdout, 'late saw 10.77.0.1: hello\n');
    assert.equal((await mesh.ask('client', '10.77.0.4')).stdout, 'late saw 10.77.0.1: hello\n');
    assert.equal(asked('/10.77.0.4').length, 1);
    assert.equal(await isTunnelled('late'), 0);
    await publish('late', '10.77.0.4', 'b');
    await mesh.enrol('late');
    assert.equal((await mesh.ask('client', '10.77.0.4')).stdout, 'late saw 10.77.0.1: hello\n');
    await eventually('through a tunnel', async () => (await isTunnelled('late')) === 1);
  });

  it('asks again for an address that a pod has left', async () => {
    const plain = { tunnelProtocol: TunnelProtocol.NONE };
    await publish('roaming', '10.77.0.9', 'none', plain);
    assert.equal((await mesh.ask('client', '10.77.0.9')).stdout, 'fourth saw 10.77.0.1: hello\n');
    assert.ok((await known()).includes('roaming'));
    await publish('roaming', '10.77.0.10', 'none', plain);
    await eventually('it is let go', () =>
      mesh.requests.some(({ resourceNamesUnsubscribe: names }) => names.includes('/10.77.0.9')),
    );
    assert.equal((await mesh.ask('client', '10.77.0.9')).stdout, 'fourth saw 10.77.0.1: hello\n');
    assert.equal(asked('/10.77.0.9').length, 2);
  });

  it('a waypoint that is asked for an address nobody knows here asks once whether it is behind it', async () => {
    const waypoint = {
      destination: { case: 'address', value: { address: bytesOf(GATE) } },
      hboneMtlsPort: 15008,
    };
    await publish('behind', '10.77.0.98', 'none', { waypoint });
    const knock = (ip: string): Promise<string> =>
      mesh.knock('third', GATE, 'spiffe://cluster.local/ns/default/sa/third', `${ip}:8080`);
    assert.equal(await knock('10.77.0.98'), '200');
    assert.equal(await knock('10.77.0.99'), '400');
    assert.equal(await knock('10.77.0.99'), '400');
    for (const ip of ['10.77.0.98', '10.77.0.99']) assert.equal(asked(`/${ip}`).length, 1, ip);
  });

  it('refuses with the reason when the control plane does not answer; what is known goes on', async () => {
    mesh.xdsMood = 'silent';
    const refused = await mesh.ask('client', '10.77.0.6');
    assert.equal(refused.status, 3);
    await eventually('the reason is counted', async () => {
      const reason = 'reason="xds_timeout"';
      return (await mesh.metric('a', 'ambient_connections_refused_total', reason)) === 1;
    });
    await eventually('the line says so', () =>
      mesh.log('a').includes('has not said in time what 10.77.0.6 is'),
    );
    assert.equal((await mesh.ask('client', VIP, 80)).stdout, 'server saw 10.77.0.1: hello\n');
  });

  it('comes back with what it holds and asks again for what was not answered', async () => {
    mesh.xdsMood = 'failing';
    const before = mesh.requests.length;
    const waiting = mesh.ask('client', '10.77.0.7');
    await eventually('it has come back', () =>
      mesh.requests.slice(before).some(({ node }) => node !== undefined),
    );
    mesh.xdsMood = 'answering';
    assert.equal((await waiting).stdout, 'third saw 10.77.0.1: hello\n');
    const again = mesh.requests
      .slice(before)
      .findLast(
        ({ node, typeUrl }) =>
          typeUrl === ADDRESS_TYPE_URL && node?.id.includes('ztunnel') === true,
      );
    assert.ok(again !== undefined);
    assert.ok(again.resourceNamesSubscribe.includes(`/${VIP}`));
    assert.deepEqual(again.resourceNamesUnsubscribe, ['*']);
    assert.ok(uidOf('server') in again.initialResourceVersions);
    assert.ok(!again.resourceNamesSubscribe.includes('/10.77.0.7'), 'apart');
    assert.equal((await mesh.ask('client', '10.77.0.6')).stdout, 'other saw 10.77.0.1: hello\n');
    assert.equal((await mesh.ask('client', VIP, 80)).stdout, 'server saw 10.77.0.1: hello\n');
  });
});
