// What restarts of the node proxy cost those who connect: nothing. Two nodes, each a holder with a proxy; the proxy dies,
// is replaced, is upgraded by a second instance and downgraded again, under a load of new connections.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import type { ChildProcess } from 'node:child_process';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const CLIENT = { name: 'client', ip: '10.77.0.1', node: 'a' };
const SERVER = { name: 'server', ip: '10.77.0.3', node: 'b' };
const OUTSIDE = { name: 'outside', ip: '10.77.0.5', node: 'none' };
/** Of a load; each has at most one connection in the proxy, and may make another before the process has died. */
const WORKERS = 8;
/** The kernel takes its time to end a process of a hundred megabytes. */
const DEATH_MS = 500;

/** Longer than a busy machine takes for what is open meanwhile in these tests. */
const DEADLINE = 'CONNECTION_TERMINATION_DEADLINE';
const LONG = '60s';

before(async () => {
  mesh.proxyEnv[DEADLINE] = LONG;
  await mesh.start();
  for (const pod of [CLIENT, SERVER, OUTSIDE]) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.startNode('a', 'holder');
  await mesh.startNode('b', 'holder');
  for (const { name } of [CLIENT, SERVER]) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

/** A connection that stays open: sends a line and waits for its answer, as often as asked. */
async function openLine(): Promise<{ client: ChildProcess; say(line: string): Promise<string> }> {
  const client = mesh.client('client', SERVER.ip, 8080);
  const say = (line: string): Promise<string> => {
    client.stdin?.write(`${line}\n`);
    return nextOutput(client);
  };
  assert.equal(await say('first'), 'server saw 10.77.0.1: first\n');
  return { client, say };
}

/** Another instance on the node, with the settings of now, and the one before it ended. */
async function replaceInstance(node: string): Promise<void> {
  const old = await mesh.startBeside(node, 'holder');
  const ended = once(old, 'exit');
  old.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
}

describe('restarts', () => {
  for (const node of ['a', 'b']) {
    it(`kill -9 of the proxy of ${node === 'a' ? 'the source' : 'the destination'}: none is refused, all that come after are served`, async () => {
      const load = mesh.load('client', SERVER.ip);
      const plain = mesh.load('outside', SERVER.ip);
      await load.more(50);
      await plain.more(20);
      const killedMs = Date.now();
      const pid = mesh.killProxy(node);
      await eventually('another proxy serves', () => mesh.proxyPid(node) !== pid);
      await mesh.whenReady(node);
      await load.more(50);
      await plain.more(20);
      for (const [name, result] of Object.entries({
        meshed: await load.end(),
        plain: await plain.end(),
      })) {
        const { served, failures } = result;
        assert.ok(served > 50, `${served} were served`);
        const seen = failures.map(({ code, startedMs, endedMs }) => {
          return `${name}: ${code} from ${startedMs - killedMs} to ${endedMs - killedMs} ms`;
        });
        // What the dying proxy had accepted is lost with it; nobody else notices.
        const lost = failures.filter(({ code }) => code === 'ECONNRESET' || code === 'CUT');
        assert.equal(lost.length, failures.length, seen.join('\n'));
        assert.ok(lost.length <= 2 * WORKERS, seen.join('\n'));
        const isLater = failures.some(({ endedMs }) => endedMs > killedMs + DEATH_MS);
        assert.ok(!isLater, seen.join('\n'));
      }
    });
  }

  it('the node agent goes: what runs goes on, what is new is served, the proxy is not ready until it is back', async () => {
    const line = await openLine();
    const pid = mesh.proxyPid('b');
    mesh.stopAgent('b');
    await eventually('it is noticed', async () => (await mesh.readiness('b')).status === 500);
    assert.equal(await line.say('alone'), 'server saw 10.77.0.1: alone\n');
    assert.equal((await mesh.ask('client', SERVER.ip)).stdout, 'server saw 10.77.0.1: hello\n');
    mesh.startAgent('b');
    await mesh.whenReady('b');
    assert.equal(await line.say('again'), 'server saw 10.77.0.1: again\n');
    assert.equal(mesh.proxyPid('b'), pid);
    line.client.stdin?.end();
    await once(line.client, 'close');
  });

  it('a proxy that dies while the node agent is away: the next serves the pods the holder knows', async () => {
    mesh.stopAgent('b');
    mesh.killProxy('b');
    const { status, stdout } = await mesh.ask('client', SERVER.ip);
    assert.deepEqual([status, stdout], [0, 'server saw 10.77.0.1: hello\n']);
    await eventually('it says what it waits for', async () => {
      const text = await mesh.readiness('b').then((answer) => answer.text());
      return text === 'not ready, pending: workload proxy manager\n';
    });
    mesh.startAgent('b');
    await mesh.whenReady('b');
  });

  it('a replacement takes over without a failed connection; the old one keeps its own to their end', async () => {
    const load = mesh.load('client', SERVER.ip);
    const plain = mesh.load('outside', SERVER.ip);
    const line = await openLine();
    await load.more(50);
    for (const node of ['a', 'b']) {
      const before = mesh.proxyPid(node);
      assert.equal((await mesh.admin(node, '/replace', 'POST')).status, 200);
      await eventually('the old one drains', () => isDraining(node, before));
      assert.notEqual(mesh.proxyPid(node), before);
      await load.more(100);
      assert.match(await line.say('still here'), /still here/);
      const labels = [`process="${before}"`, `pod="${node === 'a' ? 'client' : 'server'}"`];
      await eventually('the new one shows whose connections the old one has', async () => {
        return (await mesh.metric(node, 'ambient_draining_connections', ...labels)) >= 1;
      });
    }
    line.client.stdin?.end();
    await once(line.client, 'close');
    assert.equal(line.client.exitCode, 0);
    for (const node of ['a', 'b']) {
      await eventually('nothing drains any more', async () => {
        return (await mesh.metric(node, 'ambient_draining_connections')) === 0;
      });
    }
    assert.deepEqual((await plain.end()).failures, []);
    const { served, failures } = await load.end();
    assert.deepEqual(failures, []);
    assert.ok(served > 300, `${served} were served`);
  });

  it('what a replaced proxy counts is in the metrics of its successor, to the byte', async () => {
    const count = (name: string): Promise<number> =>
      mesh.metric('a', `istio_tcp_${name}_total`, 'reporter="source"');
    await eventually('what came before is closed', async () => {
      return (await count('connections_closed')) === (await count('connections_opened'));
    });
    const line = await openLine();
    const before = mesh.proxyPid('a');
    const counted = {
      opened: await count('connections_opened'),
      closed: await count('connections_closed'),
      received: await count('received_bytes'),
    };
    await mesh.admin('a', '/replace', 'POST');
    await eventually('the old one drains', () => mesh.proxyPid('a') !== before);
    await mesh.whenReady('a');
    assert.equal(await count('connections_opened'), counted.opened);
    await line.say('by the old one');
    line.client.stdin?.end();
    await once(line.client, 'close');
    await eventually('the old one has gone', () => hasEnded('a', before));
    assert.equal((await mesh.ask('client', SERVER.ip)).status, 0);
    const bytes = 'by the old one\nhello\n'.length;
    await eventually('both are closed', async () => {
      return (await count('connections_closed')) === counted.closed + 2;
    });
    assert.equal(await count('connections_opened'), counted.opened + 1);
    assert.equal(await count('received_bytes'), counted.received + bytes);
  });

  it('what replaced proxies counted leaves no file when the one that serves has crashed', async () => {
    const [, dir = ''] = /\0HOLDER_DIR=([^\0]+)/.exec(
      readFileSync(`/proc/${mesh.proxyPid('a')}/environ`, 'latin1'),
    ) ?? ['', ''];
    const files = (): string[] => readdirSync(dir).filter((name) => name.startsWith('counters-'));
    // Of the tests before.
    assert.ok(files().length > 0);
    const pid = mesh.killProxy('a');
    await eventually('another proxy serves', () => mesh.proxyPid('a') !== pid);
    await mesh.whenReady('a');
    assert.deepEqual(files(), []);
  });

  it('what is open at the drain deadline is ended, and its log line says so', async () => {
    mesh.proxyEnv[DEADLINE] = '1s';
    await replaceInstance('a');
    mesh.proxyEnv[DEADLINE] = LONG;
    const line = await openLine();
    const closed = once(line.client, 'close');
    const logged = mesh.log('a').length;
    const before = mesh.proxyPid('a');
    await mesh.admin('a', '/replace', 'POST');
    await closed;
    assert.equal(line.client.exitCode, 3);
    await eventually('the old one has gone', () => hasEnded('a', before));
    await eventually('a line says why it ended', () =>
      mesh.log('a').slice(logged).includes('"reason":"drained"'),
    );
    assert.equal((await mesh.ask('client', SERVER.ip)).status, 0);
    await replaceInstance('a');
  });

  it('a drain by the admin port: a successor serves at once, the old one keeps its own to their end', async () => {
    const load = mesh.load('client', SERVER.ip);
    const line = await openLine();
    await load.more(50);
    const before = mesh.proxyPid('a');
    const begun = await (await mesh.admin('a', '/drain', 'POST')).json();
    assert.partialDeepStrictEqual(begun, { state: 'draining' });
    await eventually('the old one drains', () => isDraining('a', before));
    await load.more(100);
    assert.match(await line.say('still here'), /still here/);
    line.client.stdin?.end();
    await once(line.client, 'close');
    assert.equal(line.client.exitCode, 0);
    await eventually('the old one has gone', () => hasEnded('a', before));
    assert.deepEqual((await load.end()).failures, []);
  });

  it('told to end with nobody beside it: serves on until nothing is open, or another serves', async () => {
    const line = await openLine();
    const ended = mesh.endProxy('a', 'SIGTERM');
    await eventually('it is told', () => mesh.log('a').includes('serving meanwhile'));
    assert.equal((await mesh.ask('client', SERVER.ip)).status, 0);
    assert.match(await line.say('still here'), /still here/);
    line.client.stdin?.end();
    assert.equal(await ended, 0);
    await mesh.startProxy('a', 'holder');

    const next = await openLine();
    const alone = mesh.endProxy('a', 'SIGTERM');
    await mesh.startBeside('a', 'holder');
    await eventually('the one before it takes no more', async () => {
      const { status } = await mesh.ask('client', SERVER.ip);
      assert.equal(status, 0);
      return mesh.log('a').includes('another instance serves');
    });
    assert.match(await next.say('still here'), /still here/);
    next.client.stdin?.end();
    assert.equal(await alone, 0);
    assert.equal((await mesh.ask('client', SERVER.ip)).status, 0);
  });

  it('a second instance takes over from the first, and gives back, without a failed connection', async () => {
    const load = mesh.load('client', SERVER.ip);
    const plain = mesh.load('outside', SERVER.ip);
    await load.more(100);
    for (const node of ['a', 'b', 'a', 'b']) {
      const old = await mesh.startBeside(node, 'holder');
      await load.more(100);
      const ended = once(old, 'exit');
      old.kill('SIGTERM');
      await load.more(200);
      assert.deepEqual(await ended, [0, null]);
    }
    assert.deepEqual((await plain.end()).failures, []);
    const { served, failures } = await load.end();
    assert.deepEqual(failures, []);
    assert.ok(served > 1000, `${served} were served`);
  });

  it('a version that dies before it is ready takes its sockets with it: the old one serves', async () => {
    const load = mesh.load('client', SERVER.ip);
    await load.more(20);
    const beside = await mesh.startUnready('b', 'holder');
    const ended = once(beside, 'exit');
    const [proxy = 0] = childrenOf(beside.pid ?? 0);
    const killedMs = Date.now();
    process.kill(proxy, 'SIGKILL');
    assert.deepEqual(await ended, [137, null]);
    await load.more(200);
    const { failures } = await load.end();
    const later = failures.filter(({ endedMs }) => endedMs > killedMs + DEATH_MS);
    assert.deepEqual(later, []);
  });

  it('a holder that is killed takes its proxy with it, and the next container serves', async () => {
    const proxy = mesh.proxyPid('b');
    await mesh.endProxy('b', 'SIGKILL');
    await eventually('the proxy has ended', () => !isAlive(proxy));
    await mesh.startProxy('b', 'holder');
    assert.equal((await mesh.ask('client', SERVER.ip)).status, 0);
  });
});

function isDraining(node: string, pid: number): boolean {
  return mesh.log(node).includes('"isReplaced":true') && isAlive(pid);
}

function hasEnded(node: string, pid: number): boolean {
  return new RegExp(`"process":${pid},[^\\n]*"proxy ended"`).test(mesh.log(node));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}
