// An application tunnel: dialled on loopback, told its client by PROXY protocol.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, it } from 'node:test';
import { ApplicationTunnel_Protocol } from '../../common/workload/gen/workload_pb.ts';
import { NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const IDENTITY = 'spiffe://cluster.local/ns/default/sa/client';

before(async () => {
  await mesh.start();
  mesh.addPod({ name: 'client', ip: '10.77.0.1', node: 'a' });
  mesh.addPod({ name: 'tunnel', ip: '10.77.0.3', node: 'b' });
  const application = mesh.script('tunnel', ['test/support/proxy-protocol-server.ts', 9000]);
  assert.ok(application.stdout);
  await once(application.stdout, 'data');
  await mesh.serve('client');
  await mesh.startNode('a');
  await mesh.startNode('b');
  await mesh.putPod('client');
  await mesh.putPod('tunnel', {
    applicationTunnel: { protocol: ApplicationTunnel_Protocol.PROXY, port: 9000 },
  });
  await mesh.enrol('client');
  await mesh.enrol('tunnel');
});

after(() => mesh.close());

it('an application tunnel is dialled on loopback and told client, target and identity', async () => {
  const { stdout } = await mesh.ask('client', '10.77.0.3', 8080);
  const [header = '', line] = stdout.split(' ');
  assert.equal(line, 'hello\n');
  const body = Buffer.from(header, 'hex');
  assert.deepEqual([...body.subarray(0, 8)], [10, 77, 0, 1, 10, 77, 0, 3]);
  assert.equal(body.readUInt16BE(10), 8080);
  assert.equal(body.subarray(12, 15).toString('hex'), `d000${IDENTITY.length.toString(16)}`);
  assert.equal(body.subarray(15).toString(), IDENTITY);
});
