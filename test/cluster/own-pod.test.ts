// Tunnels to the node proxy's own pod: its metrics are scraped through the mesh, with its identity, and
// policy holds for it. Here it runs in a pod, as it does in a cluster.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const IP = '10.77.0.9';
const STATS = 15_020;
const ENV = {
  NODE_NAME: 'b',
  POD_NAME: 'ztunnel',
  POD_NAMESPACE: 'default',
  SERVICE_ACCOUNT: 'ztunnel',
};
const SERVING = 'taking tunnels for the proxy itself';
let zdsPath = '';
let log = (): string => '';
let running: ChildProcess | undefined;

async function start(env: object = {}, program: 'proxy' | 'holder' = 'proxy'): Promise<void> {
  const started = await mesh.startInPod(
    'ztunnel',
    { ...ENV, INPOD_UDS: zdsPath, ...env },
    SERVING,
    program,
  );
  ({ log } = started);
  running = started.child;
}

/** Ends it, a holder with its proxy: the next one needs their ports. */
async function end(): Promise<void> {
  const child = running;
  running = undefined;
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

/** Only the place of one that was ready is taken by another. */
function isReady(): Promise<void> {
  const ready = 'http://127.0.0.1:15021/healthz/ready';
  return eventually(
    'the proxy is ready',
    async () => (await fetchIn('ztunnel', ready)) === 'ready',
  );
}

const idOf = (account: string, domain = 'cluster.local'): string =>
  `spiffe://${domain}/ns/default/sa/${account}`;

function fetchIn(pod: string, url: string): Promise<string> {
  return mesh.runScript(pod, ['--eval', `fetch('${url}').then((a) => a.text()).then(console.log)`]);
}

/** The status that a client with this identity gets, or `ended`. */
function knock(identity: string, port = STATS): Promise<string> {
  return mesh.knock('outside', IP, identity, `${IP}:${port}`);
}

before(async () => {
  await mesh.start();
  mesh.addPod({ name: 'client', ip: '10.77.0.1', node: 'a' });
  mesh.addPod({ name: 'outside', ip: '10.77.0.5', node: 'none' });
  mesh.addPod({ name: 'ztunnel', ip: IP, node: 'b' });
  await mesh.startNode('a');
  for (const name of ['client', 'ztunnel']) await mesh.putPod(name);
  await mesh.enrol('client');
  zdsPath = await mesh.addNode('b');
  await start();
});

after(async () => {
  await end();
  await mesh.close();
});

describe('the node proxy’s own pod', () => {
  it('is scraped through the mesh, with the identity of the proxy', async () => {
    const metrics = await fetchIn('client', `http://${IP}:${STATS}/metrics`);
    assert.match(metrics, /istio_build\{/);
    const labels = [
      'reporter="source"',
      'connection_security_policy="mutual_tls"',
      `destination_principal="${idOf('ztunnel')}"`,
    ];
    await eventually('the client’s proxy has counted a tunnel', async () => {
      return (await mesh.metric('a', 'istio_tcp_connections_closed_total', ...labels)) === 1;
    });
    const line = /\{[^\n]*"direction":"inbound"[^\n]*/;
    await eventually('its own line is written', () => line.test(log()));
    assert.partialDeepStrictEqual(JSON.parse(line.exec(log())?.[0] ?? '{}'), {
      'src.identity': idOf('client'),
      'dst.workload': 'ztunnel',
      'dst.hbone_addr': `${IP}:${STATS}`,
    });
  });

  it('its applications see the pod itself: the source is never kept', async () => {
    await mesh.serve('ztunnel');
    const { stdout } = await mesh.ask('client', IP);
    assert.equal(stdout, `ztunnel saw ${IP}: hello\n`);
  });

  it('is no pod of the dump, and its connections are not those of pods', async () => {
    const dump = JSON.parse(await fetchIn('ztunnel', 'http://127.0.0.1:15000/config_dump')) as {
      workloadState: object;
    };
    assert.deepEqual(dump.workloadState, {});
    const client = mesh.client('client', IP, STATS);
    await eventually('a tunnel is open', async () => {
      const metrics = await fetchIn('ztunnel', `http://127.0.0.1:${STATS}/metrics`);
      return /^istio_tcp_sockets_open\{reporter="destination"\} 1$/m.test(metrics);
    });
    const answer = await fetchIn('ztunnel', 'http://127.0.0.1:15000/connections');
    const { pods, connectionCount } = JSON.parse(answer) as Record<string, unknown>;
    assert.deepEqual([pods, connectionCount], [[], 0]);
    client.stdin?.end();
  });

  it('takes no tunnel to the listeners of proxies', async () => {
    assert.equal(await knock(idOf('x'), 15_008), '503');
    assert.equal(await knock(idOf('x')), '200');
  });

  it('is protected by policy', async () => {
    await mesh.putPolicy('default/no-x', {
      name: 'no-x',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      rules: [
        {
          clauses: [
            {
              matches: [
                { principals: [{ matchType: { case: 'exact', value: idOf('x').slice(9) } }] },
              ],
            },
          ],
        },
      ],
    });
    assert.equal(await knock(idOf('x')), '401');
    assert.equal(await knock(idOf('y')), '200');
    await mesh.putPolicy('default/no-x', undefined);
    assert.equal(await knock(idOf('x')), '200');
  });

  it('answers 503 while the control plane does not describe it', async () => {
    await mesh.removeAddress('ztunnel');
    const startedMs = Date.now();
    const status = await knock(idOf('x'));
    const waitedMs = Date.now() - startedMs;
    await mesh.putPod('ztunnel');
    assert.equal(status, '503');
    assert.ok(waitedMs >= 4900, `it was waited for: ${waitedMs} ms`);
    const reason = 'no workload for default/ztunnel';
    await eventually('the line says so', () => log().includes(reason));
    assert.equal(await knock(idOf('x')), '200');
  });

  it('another proxy in the same namespace serves its pods without it, and says so', async () => {
    const ports = { ADMIN_PORT: 15_900, STATS_PORT: 15_920, READINESS_PORT: 15_921 };
    const says = 'no tunnels for the proxy itself';
    const env = { ...ENV, INPOD_UDS: mesh.pathOf('nobody.sock'), ...ports };
    const other = await mesh.startInPod('ztunnel', env, says);
    assert.match(other.log(), /EADDRINUSE/);
    assert.equal(other.child.exitCode, null);
    const exited = once(other.child, 'exit');
    other.child.kill('SIGTERM');
    assert.deepEqual(await exited, [0, null]);
    assert.equal(await knock(idOf('x')), '200');
  });

  it('a holder keeps its listener while one proxy dies and the next begins', async () => {
    await end();
    await start({}, 'holder');
    await isReady();
    const pid = Number(/"process":(\d+),[^\n]*"proxy started"/.exec(log())?.[1] ?? 0);
    assert.equal(await knock(idOf('x')), '200');
    process.kill(pid, 'SIGKILL');
    // Not even the first is refused: it waits in the backlog.
    assert.equal(await knock(idOf('x')), '200');
    await eventually('the next one takes them', () => log().split(SERVING).length - 1 === 2);
    assert.doesNotMatch(log(), /no tunnels for the proxy itself/);
  });

  it('a tunnel to it holds up no drain', async () => {
    await end();
    await start({ CONNECTION_TERMINATION_DEADLINE: '60s', RUST_LOG: 'info,access=debug' });
    const client = mesh.client('client', IP, STATS);
    await eventually('a tunnel is open', () => log().includes('connection opened'));
    const startedMs = Date.now();
    await end();
    assert.ok(Date.now() - startedMs < 10_000, 'it did not wait for the deadline');
    client.stdin?.end();
  });

  it('has a certificate of TRUST_DOMAIN, and takes tunnels of that one only', async () => {
    await end();
    await start({ TRUST_DOMAIN: 'example.org' });
    assert.equal(await knock(idOf('x', 'example.org')), '200');
    assert.equal(await knock(idOf('x')), 'ended');
    await eventually('it is issued', () =>
      log().includes('spiffe://example.org/ns/default/sa/ztunnel'),
    );
  });
});
