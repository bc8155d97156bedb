// Two pods of one node, joined by the node proxy without a tunnel: what holds for a tunnel holds here.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { NODE_LOCAL_EXTENSION } from '../../common/workload/extensions.ts';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'a' },
];
const NODE_LOCAL = 'connection_security_policy="node_local"';
const MUTUAL_TLS = 'connection_security_policy="mutual_tls"';
const OPENED = 'istio_tcp_connections_opened_total';

const publish = (name: string, isAllowed: boolean): Promise<void> =>
  mesh.putPod(name, { extensions: isAllowed ? [{ name: NODE_LOCAL_EXTENSION }] : [] });

async function denyClient(isDenied: boolean): Promise<void> {
  const principal = {
    matchType: { case: 'exact' as const, value: 'cluster.local/ns/default/sa/client' },
  };
  const rules = [{ clauses: [{ matches: [{ principals: [principal] }] }] }];
  const policy = {
    name: 'deny',
    namespace: 'default',
    scope: Scope.NAMESPACE,
    action: Action.DENY,
    rules,
  };
  await mesh.putPolicy('default/deny', isDenied ? policy : undefined);
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.startNode('a');
  for (const { name } of PODS) {
    await publish(name, true);
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

describe('the same-node path', () => {
  it('joins two pods, keeps the source address, and is counted once by each side', async () => {
    const { status, stdout } = await mesh.ask('client', '10.77.0.3');
    assert.deepEqual([status, stdout], [0, 'server saw 10.77.0.1: hello\n']);
    const why = (await (
      await mesh.admin('a', '/debug/why?src=default/client&dst=10.77.0.3:8080')
    ).json()) as object;
    assert.partialDeepStrictEqual(why, { isAllowed: true, decision: { path: 'node_local' } });
    for (const reporter of ['source', 'destination']) {
      const labels = [`reporter="${reporter}"`, NODE_LOCAL];
      await eventually(
        `${reporter} has counted`,
        async () => (await mesh.metric('a', 'istio_tcp_connections_closed_total', ...labels)) === 1,
      );
      assert.equal(await mesh.metric('a', 'istio_tcp_received_bytes_total', ...labels), 6);
      assert.equal(await mesh.metric('a', 'istio_tcp_sent_bytes_total', ...labels), 28);
    }
    assert.equal(await mesh.metric('a', OPENED, MUTUAL_TLS), 0);
    const lines = (): string[] =>
      mesh
        .log('a')
        .split('\n')
        .filter((line) => line.includes('"path":"node_local"') && line.endsWith('}'));
    await eventually('both sides have a line', () => lines().length >= 2);
    assert.equal(lines().length, 2);
    assert.partialDeepStrictEqual(JSON.parse(lines()[0] ?? ''), {
      'src.identity': 'spiffe://cluster.local/ns/default/sa/client',
      'dst.identity': 'spiffe://cluster.local/ns/default/sa/server',
    });
  });

  it('refuses by policy, and ends a running connection when a policy comes', async () => {
    const running = mesh.client('client', '10.77.0.3', 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const ended = once(running, 'close');
    await denyClient(true);
    const [code] = (await ended) as [number | null];
    assert.equal(code, 3);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 3);
    for (const reason of ['policy_changed', 'policy_denied']) {
      await eventually(
        `${reason} is counted`,
        async () =>
          (await mesh.metric('a', 'ambient_connections_refused_total', `reason="${reason}"`)) >= 1,
      );
    }
    await denyClient(false);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
  });

  it('an application that does not listen is a failure with a reason on both sides', async () => {
    assert.equal((await mesh.ask('client', '10.77.0.3', 9)).status, 3);
    const refused = 'ambient_connections_refused_total';
    for (const labels of [
      ['reporter="destination"', 'reason="connect_failed"'],
      ['reporter="source"', 'reason="tunnel_refused"'],
    ]) {
      await eventually(
        `${labels.join(' ')} is counted`,
        async () => (await mesh.metric('a', refused, ...labels)) >= 1,
      );
    }
  });

  it('is left to the tunnel when either side is not allowed', async () => {
    await publish('server', false);
    const before = await mesh.metric('a', OPENED, NODE_LOCAL);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    await eventually('the tunnel is counted', async () => {
      return (await mesh.metric('a', OPENED, MUTUAL_TLS, 'reporter="source"')) === 1;
    });
    assert.equal(await mesh.metric('a', OPENED, NODE_LOCAL), before);
    await publish('server', true);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    assert.equal((await mesh.metric('a', OPENED, NODE_LOCAL, 'reporter="source"')) > 0, true);
  });
});
