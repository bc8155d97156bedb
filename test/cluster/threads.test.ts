// Node proxies with two data threads: a pod's connections come to both, and what holds for a pod holds over both: policy,
// limits, certificates, counters, the list of connections, restarts and drains.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { NODE_LOCAL_EXTENSION } from '../../common/workload/extensions.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const SERVER = '10.77.0.3';
const NEAR = '10.77.0.4';
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'near', ip: NEAR, node: 'a' },
  { name: 'limited', ip: '10.77.0.2', node: 'c' },
  { name: 'server', ip: SERVER, node: 'b' },
];
const OUTSIDE = { name: 'outside', ip: '10.77.0.5', node: 'none' };
const LINES = 6;
const LIMIT = 10;
/** Of a load; each makes one connection after the other. */
const WORKERS = 8;
const THREADS = ['0', '1'];

interface Connections {
  readonly connectionCount: number;
  readonly pods: readonly Record<string, number>[];
  readonly connections: readonly { readonly protocol: string }[];
}

async function connectionsOf(node: string, query = ''): Promise<Connections> {
  return (await (await mesh.admin(node, `/connections${query}`)).json()) as Connections;
}

/** Connections that each data thread of a node has opened so far. */
function openedBy(node: string): Promise<number[]> {
  const name = 'ambient_data_thread_connections_total';
  return Promise.all(THREADS.map((thread) => mesh.metric(node, name, `thread="${thread}"`)));
}

/** Runs `work`; how many connections each data thread of the node opened meanwhile. */
async function during(node: string, work: () => Promise<unknown>): Promise<number[]> {
  const before = await openedBy(node);
  await work();
  return (await openedBy(node)).map((count, at) => count - (before[at] ?? 0));
}

/** Connections that stay open; each has sent a line and read the answer. */
async function openLines(pod: string, host: string, count = LINES): Promise<ChildProcess[]> {
  const clients: ChildProcess[] = [];
  for (let i = 0; i < count; i++) {
    const client = mesh.client(pod, host, 8080);
    client.stdin?.write('one\n');
    await nextOutput(client);
    clients.push(client);
  }
  return clients;
}

async function endLines(clients: readonly ChildProcess[]): Promise<void> {
  const closed = clients.map((client) => once(client, 'close'));
  for (const client of clients) client.stdin?.end();
  assert.deepEqual(
    await Promise.all(closed),
    clients.map(() => [0, null]),
  );
}

before(async () => {
  await mesh.start();
  for (const pod of [...PODS, OUTSIDE]) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.serve('near');
  mesh.proxyEnv['ZTUNNEL_WORKER_THREADS'] = '2';
  await mesh.startNode('a', 'holder');
  await mesh.startNode('b', 'holder');
  mesh.proxyEnv['POD_MAX_CONNECTIONS'] = String(LIMIT);
  mesh.proxyEnv['SECRET_TTL'] = '8s';
  await mesh.startNode('c');
  delete mesh.proxyEnv['POD_MAX_CONNECTIONS'];
  delete mesh.proxyEnv['SECRET_TTL'];
  for (const { name } of PODS) {
    await mesh.putPod(name, { extensions: [{ name: NODE_LOCAL_EXTENSION }] });
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

describe('two data threads', () => {
  it('share a storm of connections about evenly, and their counters add up', async () => {
    for (const [pod, node] of [
      ['client', 'a'],
      ['outside', 'b'],
    ] as const) {
      const opened = await during(node, async () => {
        const load = mesh.load(pod, SERVER);
        await load.more(200);
        const { served, failures } = await load.end();
        assert.deepEqual(failures, []);
        const labels = [`reporter="${pod === 'client' ? 'source' : 'destination'}"`];
        if (pod === 'outside') labels.push('connection_security_policy="unknown"');
        await eventually('the sum is what was served', async () => {
          return (
            (await mesh.metric(node, 'istio_tcp_connections_closed_total', ...labels)) === served
          );
        });
      });
      const [one = 0, two = 0] = opened;
      assert.ok(Math.min(one, two) > 0.25 * (one + two), `${pod}: ${opened.join(' and ')}`);
    }
  });

  it('connections that come one by one do not all go to the first', async () => {
    const opened = await during('a', async () => {
      const lines = await openLines('client', SERVER);
      const { connectionCount, pods, connections } = await connectionsOf('a');
      assert.equal(connectionCount, LINES);
      assert.equal(connections.length, LINES);
      assert.partialDeepStrictEqual(pods[0], { name: 'client', outbound: LINES });
      assert.equal((await connectionsOf('a', '?top=2')).connections.length, 2);
      const dump = await mesh.configDump('a');
      assert.equal(JSON.stringify(dump).split(`${SERVER}:15008`).length - 1 >= LINES, true);
      await endLines(lines);
    });
    assert.ok(Math.min(...opened) >= LINES / 3, opened.join(' and '));
  });

  it('join pods of the node in either thread', async () => {
    const opened = await during('a', async () => {
      const lines = await openLines('client', NEAR);
      const { connections } = await connectionsOf('a');
      assert.deepEqual([...new Set(connections.map(({ protocol }) => protocol))], ['NODE_LOCAL']);
      await endLines(lines);
    });
    // Each counts at both its ends.
    assert.ok(Math.min(...opened) >= 2, opened.join(' and '));
  });

  it('a policy ends what it denies in both', async () => {
    const lines = await openLines('client', SERVER);
    const plain = await openLines('outside', SERVER);
    const closed = [...lines, ...plain].map((client) => once(client, 'close'));
    await mesh.putPolicy('default/deny', {
      name: 'deny',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      rules: [{ clauses: [{ matches: [{ destinationPorts: [8080] }] }] }],
    });
    for (const [code] of (await Promise.all(closed)) as [number][]) assert.equal(code, 3);
    assert.equal((await mesh.ask('client', SERVER)).status, 3);
    await mesh.putPolicy('default/deny', undefined);
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
  });

  it('a limit of a pod holds over both together', async () => {
    const opened = await during('c', async () => {
      const lines = await openLines('limited', SERVER, LIMIT);
      assert.equal((await mesh.ask('limited', SERVER)).status, 3);
      await eventually('the line says so', () =>
        mesh.log('c').includes(`the pod has ${LIMIT} connections, the limit is ${LIMIT}`),
      );
      assert.partialDeepStrictEqual((await connectionsOf('c')).pods[0], { outbound: LIMIT });
      await endLines(lines);
      await eventually('there is room again', async () => {
        return (await mesh.ask('limited', SERVER)).status === 0;
      });
      await eventually('none is counted', async () => {
        return (await connectionsOf('c')).pods[0]?.['outbound'] === 0;
      });
    });
    assert.ok(Math.min(...opened) > 0, opened.join(' and '));
  });

  it('certificates are renewed in both without a failed connection', async () => {
    const handshakes = async (): Promise<number> =>
      (await connectionsOf('b')).pods[0]?.['handshakesTotal'] ?? 0;
    const serial = async (): Promise<string> =>
      JSON.stringify((await mesh.configDump('c'))['certificates']);
    // One that has ended for the client may still be counted when the next one comes: twice as many fit.
    const load = mesh.load('limited', SERVER, 8080, LIMIT / 2);
    await load.more(50);
    const [first, known] = [await handshakes(), await serial()];
    await eventually('the certificate is another', async () => (await serial()) !== known);
    await eventually('the tunnels of both are too', async () => (await handshakes()) >= first + 2);
    await load.more(50);
    assert.deepEqual((await load.end()).failures, []);
  });
});

describe('restarts with two data threads', () => {
  it('a replacement takes over the sockets of both without a failed connection', async () => {
    const load = mesh.load('client', SERVER);
    const plain = mesh.load('outside', SERVER);
    await load.more(50);
    for (const node of ['a', 'b']) {
      const old = mesh.proxyPid(node);
      assert.equal((await mesh.admin(node, '/replace', 'POST')).status, 200);
      await eventually('the old one has ended', () =>
        new RegExp(`"process":${old},[^\\n]*"proxy ended"`).test(mesh.log(node)),
      );
      await load.more(50);
      await plain.more(50);
      assert.ok(Math.min(...(await openedBy(node))) > 0);
    }
    assert.deepEqual((await plain.end()).failures, []);
    assert.deepEqual((await load.end()).failures, []);
  });

  it('a second instance takes over from the first without a failed connection', async () => {
    const load = mesh.load('client', SERVER);
    await load.more(50);
    for (const node of ['a', 'b']) {
      const old = await mesh.startBeside(node, 'holder');
      await load.more(50);
      const ended = once(old, 'exit');
      old.kill('SIGTERM');
      await load.more(50);
      assert.deepEqual(await ended, [0, null]);
    }
    assert.deepEqual((await load.end()).failures, []);
  });

  it('kill -9: the next serves all that came meanwhile', async () => {
    const load = mesh.load('client', SERVER);
    await load.more(50);
    const pid = mesh.killProxy('a');
    await eventually('another serves', () => mesh.proxyPid('a') !== pid);
    await mesh.whenReady('a');
    await load.more(50);
    const { failures } = await load.end();
    // What the dying proxy had accepted is lost with it.
    const others = failures.filter(({ code }) => code !== 'ECONNRESET' && code !== 'CUT');
    assert.deepEqual(others, []);
    assert.ok(failures.length <= 2 * WORKERS, `${failures.length} failed`);
  });

  it('a drain waits for the connections of both, and then the process ends', async () => {
    const lines = await openLines('client', SERVER);
    const begun = (await (await mesh.admin('a', '/drain', 'POST')).json()) as object;
    assert.partialDeepStrictEqual(begun, { state: 'draining', connections: LINES });
    await eventually('it is seen', async () => {
      return (await mesh.metric('a', 'ambient_draining_connections')) === LINES;
    });
    await endLines(lines);
    await eventually('the log says drained', () => mesh.log('a').includes('"drained"'));
  });
});
