// What a pod that means harm tries against the node proxies (the spec's malicious_calls_inpod, hbone_ip_mismatch and
// client_uncaptured_inpod): nothing of it reaches an application, and a healthy connection beside it goes on. What breaks
// TLS or HTTP/2 is in bad-input.test.ts.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const CLIENT = '10.77.0.1';
const SERVER = '10.77.0.3';
const SECOND = '10.77.0.4';
const PODS = [
  { name: 'client', ip: CLIENT, node: 'a' },
  { name: 'server', ip: SERVER, node: 'b' },
  { name: 'second', ip: SECOND, node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const OPENED = 'istio_tcp_connections_opened_total';
const REFUSED = 'ambient_connections_refused_total';
const idOf = (account: string): string => `spiffe://cluster.local/ns/default/sa/${account}`;
let healthy: ChildProcess;

/** The healthy connection carries a line there and back. */
async function ping(): Promise<void> {
  assert.equal(healthy.exitCode, null, 'the healthy connection goes on');
  const answer = nextOutput(healthy);
  healthy.stdin?.write('ping\n');
  assert.equal(await answer, `server saw ${CLIENT}: ping\n`);
}

/** What comes of each, all at once. */
async function each<T>(
  rows: readonly string[],
  attempt: (row: string) => Promise<T>,
): Promise<Record<string, T>> {
  const results = rows.map(async (row) => [row, await attempt(row)] as const);
  return Object.fromEntries(await Promise.all(results));
}

const all = <T>(rows: readonly string[], result: T): Record<string, T> =>
  Object.fromEntries(rows.map((row) => [row, result]));

/** What an application, or anybody, answers there. */
async function heard(pod: string, target: string): Promise<string> {
  const at = target.lastIndexOf(':');
  return (await mesh.ask(pod, target.slice(0, at), Number(target.slice(at + 1)))).stdout;
}

function policy(action: Action, match: object): Parameters<NetnsMesh['putPolicy']>[1] {
  const rules = [{ clauses: [{ matches: [match] }] }];
  return { name: 'p', namespace: 'default', scope: Scope.NAMESPACE, action, rules };
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  for (const name of ['client', 'server', 'second']) await mesh.serve(name);
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const name of ['client', 'server', 'second']) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
  healthy = mesh.client('client', SERVER, 8080);
  await ping();
});

after(() => mesh.close());

describe('malicious_calls_inpod', () => {
  it('hbone_ip_mismatch: a tunnel to a pod leads to no other address, loopback and metadata included', async () => {
    const addresses = [SECOND, CLIENT, '127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0'];
    const rows = [...addresses, '169.254.169.254', '[fe80::1]'].map((host) => `${host}:8080`);
    const opened = await mesh.metric('b', OPENED);
    const knock = (authority: string): Promise<string> =>
      mesh.knock('outside', SERVER, idOf('outside'), authority);
    assert.deepEqual(await each(rows, knock), all(rows, '400'));
    await eventually('each is counted', async () => {
      return (await mesh.metric('b', REFUSED, 'reason="ip_mismatch"')) === rows.length;
    });
    assert.equal(await mesh.metric('b', OPENED), opened);
    await ping();
  });

  it('a tunnel to a listener of the proxy, to a name that is not the pod’s, or to no port is refused', async () => {
    const unserved = [15_001, 15_006, 15_008, 15_000, 15_020, 15_021].map(
      (port) => `${SERVER}:${port}`,
    );
    const unknown = ['localhost:8080', 'kubernetes.default.svc.cluster.local:443'];
    const bad = [`${SERVER}:65536`, `${SERVER}:-1`, SERVER, ':8080'];
    const knock = (authority: string): Promise<string> =>
      mesh.knock('outside', SERVER, idOf('outside'), authority);
    const refused = [...unserved, ...unknown];
    assert.deepEqual(await each(refused, knock), all(refused, '503'));
    assert.deepEqual(await each(bad, knock), all(bad, '400'));
    await ping();
  });

  it('a tunnel without a client certificate ends', async () => {
    const none = { cert: '', key: '' };
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, none), 'ended');
    await ping();
  });

  it('forged baggage and forwarded headers: the address and the identity are those of the connection', async () => {
    const own = mesh.certificate(idOf('outside'));
    const from = mesh.log('b').length;
    const forge = (): Promise<string> => mesh.misbehave('outside', 'forge', SERVER, own);
    assert.equal(await forge(), '200 server saw 10.77.0.5: a line');
    const complete = /\{[^\n]*"message":"connection complete"[^\n]*/;
    await eventually('the line is written', () => complete.test(mesh.log('b').slice(from)));
    const line = JSON.parse(complete.exec(mesh.log('b').slice(from))?.[0] ?? '{}') as object;
    assert.partialDeepStrictEqual(line, { 'src.identity': idOf('outside') });
    assert.match(JSON.stringify(line), /"src\.addr":"10\.77\.0\.5:/);
    const principals = [{ matchType: { case: 'exact', value: idOf('client').slice(9) } }];
    const sourceIps = [{ address: Uint8Array.of(10, 77, 0, 1), length: 32 }];
    for (const match of [{ principals }, { sourceIps }]) {
      await mesh.putPolicy('default/p', policy(Action.ALLOW, match));
      assert.equal(await forge(), '401');
      await ping();
    }
    await mesh.putPolicy('default/p', undefined);
  });
});

describe('client_uncaptured_inpod', () => {
  it('reaches the application in plaintext, and no listener of the proxy', async () => {
    const app = `${SERVER}:8080`;
    assert.equal(await heard('outside', app), 'server saw 10.77.0.5: hello\n');
    const rows = [15_001, 15_006, 15_008, 15_053, 15_000].map((port) => `${SERVER}:${port}`);
    assert.deepEqual(await each(rows, (row) => heard('outside', row)), all(rows, ''));
    await ping();
  });
});

describe('a captured pod', () => {
  it('gets nowhere by the listeners of its own proxy, nor by those of another pod: no loop', async () => {
    const hosts = ['127.0.0.1', CLIENT, SERVER];
    const rows = [15_001, 15_006, 15_008].flatMap((port) => hosts.map((host) => `${host}:${port}`));
    const socketsBefore = await mesh.metric('a', OPENED);
    assert.deepEqual(await each(rows, (row) => heard('client', row)), all(rows, ''));
    // A loop would open connections without end.
    const opened = (await mesh.metric('a', OPENED)) - socketsBefore;
    assert.ok(opened <= rows.length, `${opened} were opened for ${rows.length} calls`);
    await ping();
  });
});
