// Probes of the kubelet: they come from the node itself, have no identity, and reach pods under strict mutual TLS all the
// same, by the rules that the node agent writes on the node and in the pod. Nothing else does.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { buildHostRules } from '../../cni/rules/host-rules.ts';
import { HOST_PROBE_IPV4 } from '../../cni/rules/marks.ts';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const SERVER = '10.77.0.3';
const HOST = '10.77.0.254';
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: SERVER, node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const NOT_AUTHENTICATED = {
  notPrincipals: [{ matchType: { case: 'presence' as const, value: {} } }],
};
const TARGETS = [{ ip: SERVER, uid: 'server' }];

/** An HTTP probe: its status, 000 without one. */
async function probe(from = 'net'): Promise<string> {
  const url = `http://${SERVER}:8090/200`;
  const args = ['-s', '-o', '/dev/null', '-m', '5', '-w', '%{http_code}', url];
  return (await mesh.runProgram(from, 'curl', args)).stdout;
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  mesh.addHost(HOST);
  await mesh.serve('server');
  await mesh.startScript('server', ['test/support/http-server.ts', '8090', '8091', '8092']);
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const name of ['client', 'server']) {
    await mesh.putPod(name);
    await mesh.enrol(name);
    await mesh.redirectAsAgent(name);
  }
  await mesh.putPolicy('default/strict', {
    ...{ name: 'strict', namespace: 'default', scope: Scope.NAMESPACE, action: Action.DENY },
    rules: [{ clauses: [{ matches: [NOT_AUTHENTICATED] }] }],
  });
});

after(() => mesh.close());

describe('probe', () => {
  it('of a node without the agent’s rules is denied as any plaintext', async () => {
    assert.equal(await probe(), '000');
    assert.equal((await mesh.ask('net', SERVER)).stdout, '');
  });

  it('over HTTP and TCP reaches the application under STRICT, from the address of probes', async () => {
    mesh.applyRules('net', buildHostRules(TARGETS));
    const opened = await mesh.metric('b', 'istio_tcp_connections_opened_total');
    assert.equal(await probe(), '200');
    assert.equal((await mesh.ask('net', SERVER)).stdout, `server saw ${HOST_PROBE_IPV4}: hello\n`);
    assert.equal(await mesh.metric('b', 'istio_tcp_connections_opened_total'), opened);
  });

  it('of another pod is denied, and the mesh goes on', async () => {
    assert.equal(await probe('outside'), '000');
    assert.equal((await mesh.ask('client', SERVER)).stdout, 'server saw 10.77.0.1: hello\n');
  });

  it('does not depend on the node proxy', async () => {
    await mesh.endProxy('b', 'SIGKILL');
    assert.equal(await probe(), '200');
  });
});
