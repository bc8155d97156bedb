// Bulk data with checksums over each path of the node proxies: nothing is lost, doubled or out of place, the half-close
// included. Ten gigabytes: `npm run soak -- checksum`.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { NODE_LOCAL_EXTENSION } from '../../common/workload/extensions.ts';
import { serveChecksums, transfer } from '../support/checked-transfer.ts';
import { NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const BYTES = 256_000_000;
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'neighbour', ip: '10.77.0.2', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'outside', ip: '10.77.0.4', node: 'b' },
];

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  for (const name of ['neighbour', 'server', 'outside']) await serveChecksums(mesh, name);
  for (const node of ['a', 'b']) await mesh.startNode(node);
  for (const name of ['client', 'neighbour', 'server']) {
    await mesh.putPod(name, { extensions: [{ name: NODE_LOCAL_EXTENSION }] });
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

describe('256 MB up and down with checksums', () => {
  const rows: readonly [claim: string, from: string, host: string, ...labels: string[]][] = [
    ['through a tunnel', 'client', '10.77.0.3', 'connection_security_policy="mutual_tls"'],
    ['on one node', 'client', '10.77.0.2', 'connection_security_policy="node_local"'],
    ['out of the mesh', 'client', '10.77.0.4', 'connection_security_policy="unknown"'],
  ];
  for (const [claim, from, host, ...labels] of rows) {
    it(`arrive whole ${claim}`, async () => {
      const { arrived, received, isRight } = await transfer(mesh, from, host, BYTES);
      assert.deepEqual([arrived, received, isRight], [BYTES, BYTES, true]);
      const metric = 'istio_tcp_connections_opened_total';
      assert.equal(await mesh.metric('a', metric, 'reporter="source"', ...labels), 1);
    });
  }

  it('arrive whole from out of the mesh', async () => {
    const { arrived, received, isRight } = await transfer(mesh, 'outside', '10.77.0.3', BYTES);
    assert.deepEqual([arrived, received, isRight], [BYTES, BYTES, true]);
  });
});
