// What an operator can ask of a running node proxy: connections, decisions, profiles, log levels, drain.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'other', ip: '10.77.0.2', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
];

interface Connections {
  readonly isDraining: boolean;
  readonly connectionCount: number;
  readonly omitted: number;
  readonly pods: readonly Record<string, unknown>[];
  readonly connections: readonly Record<string, unknown>[];
}

async function connectionsOf(node: string, query = ''): Promise<Connections> {
  return (await (await mesh.admin(node, `/connections${query}`)).json()) as Connections;
}

/** A client that has sent a line and read the answer, and stays. */
async function openClient(line: string): Promise<ChildProcess> {
  const client = mesh.client('client', '10.77.0.3', 8080);
  client.stdin?.write(`${line}\n`);
  await nextOutput(client);
  return client;
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.serve('server');
  mesh.proxyEnv['POD_MAX_CONNECTIONS'] = '3';
  await mesh.startNode('a');
  delete mesh.proxyEnv['POD_MAX_CONNECTIONS'];
  await mesh.startNode('b');
  for (const { name } of PODS) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

describe('connections', () => {
  it('are listed live at both ends, with bytes, age and identities', async () => {
    const client = await openClient('hello');
    const outbound = await connectionsOf('a');
    assert.partialDeepStrictEqual(outbound.connections[0], {
      pod: 'default/client',
      direction: 'outbound',
      originalDst: '10.77.0.3:8080',
      actualDst: '10.77.0.3:15008',
      protocol: 'HBONE',
      source: 'default/client',
      destination: 'default/server',
      service: null,
      destinationIdentity: 'spiffe://cluster.local/ns/default/sa/server',
      bytesReceived: 6,
    });
    const inbound = await connectionsOf('b', '?pod=default/server&sort=age&top=1');
    assert.partialDeepStrictEqual(inbound.connections[0], {
      direction: 'inbound',
      sourceIdentity: 'spiffe://cluster.local/ns/default/sa/client',
      bytesReceived: 6,
      bytesSent: 28,
    });
    assert.partialDeepStrictEqual(inbound.pods[0], {
      name: 'server',
      inbound: 1,
      outbound: 0,
      bytesSent: 28,
    });
    client.stdin?.end();
    await once(client, 'close');
    await eventually('both have forgotten it', async () => {
      const [a, b] = [await connectionsOf('a'), await connectionsOf('b')];
      return a.connectionCount === 0 && b.connectionCount === 0;
    });
    const [pod] = (await connectionsOf('b')).pods;
    assert.partialDeepStrictEqual(pod, { inbound: 0, bytesSent: 28, openedTotal: 1 });
  });

  it('a bad query is refused with its reason', async () => {
    const answer = await mesh.admin('a', '/connections?sort=colour');
    assert.equal(answer.status, 400);
    assert.equal(await answer.text(), 'sort must be one of bytes, age, rate\n');
  });
});

interface Why {
  readonly isAllowed: boolean;
  readonly reason: string | null;
  readonly summary: string;
  readonly steps: readonly { readonly step: string; readonly outcome: string }[];
}

describe('why', () => {
  const ask = async (node: string, query: string): Promise<Why> =>
    (await (await mesh.admin(node, `/debug/why?${query}`)).json()) as Why;

  it('says what becomes of a connection before and after a policy, and so it goes', async () => {
    const query = 'src=default/client&dst=10.77.0.3:8080';
    for (const node of ['a', 'b']) {
      assert.partialDeepStrictEqual(await ask(node, query), { isAllowed: true, reason: null });
    }
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    await mesh.putPolicy('default/deny', {
      name: 'deny',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      rules: [{ clauses: [{ matches: [{ destinationPorts: [8080] }] }] }],
    });
    const before = await mesh.metric('a', 'istio_tcp_connections_opened_total');
    for (const node of ['a', 'b']) {
      const why = await ask(node, query);
      assert.equal(why.reason, 'policy_denied', why.summary);
      assert.match(why.summary, /explicitly denied by: default\/deny$/);
    }
    // It was asked for, not tried.
    assert.equal(await mesh.metric('a', 'istio_tcp_connections_opened_total'), before);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 3);
    await mesh.putPolicy('default/deny', undefined);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
  });

  it('refuses a question that means nothing', async () => {
    const answer = await mesh.admin('a', '/debug/why?src=default/client');
    assert.deepEqual(
      [answer.status, await answer.json()],
      [400, { error: 'src and dst are required' }],
    );
    assert.match(JSON.stringify(await ask('a', 'src=x/y&dst=10.0.0.1:1')), /no workload/);
  });
});

describe('profiles', () => {
  for (const thread of ['control', 'data']) {
    it(`records the CPU of the ${thread} thread`, async () => {
      const answer = mesh.admin(
        'a',
        `/debug/pprof/profile?seconds=1&frequency=1000&thread=${thread}`,
      );
      for (let i = 0; i < 3; i++) await mesh.ask('client', '10.77.0.3');
      const profile = (await (await answer).json()) as {
        nodes: { callFrame: { url: string } }[];
        startTime: number;
        endTime: number;
      };
      const urls = profile.nodes.map(({ callFrame }) => callFrame.url).join(' ');
      assert.ok(profile.endTime - profile.startTime > 900_000);
      if (thread === 'data') assert.match(urls, /engine\/reactor\/reactor\.ts/);
      else assert.doesNotMatch(urls, /engine\/tls/);
    });
  }

  it('samples allocations once that is activated', async () => {
    const read = (thread: string): Promise<Response> =>
      mesh.admin('a', `/debug/pprof/heap?thread=${thread}`);
    const inactive = await read('data');
    assert.deepEqual(
      [inactive.status, await inactive.text()],
      [500, 'heap profiling is not active\n'],
    );
    const set = async (wanted: string): Promise<number> =>
      (await mesh.admin('a', `/debug/pprof/heap/profiling?activate=${wanted}`)).status;
    assert.equal(await set('maybe'), 400);
    assert.equal(await set('true'), 200);
    for (let i = 0; i < 3; i++) await mesh.ask('client', '10.77.0.3');
    for (const thread of ['data', 'control']) {
      const answer = await read(thread);
      assert.equal(answer.status, 200);
      const profile = (await answer.json()) as { head: { children: unknown[] } };
      assert.ok(Array.isArray(profile.head.children));
    }
    assert.equal(await set('false'), 200);
    assert.equal((await read('control')).status, 500);
  });

  it('refuses what is out of bounds, and two at once', async () => {
    for (const query of ['seconds=0', 'seconds=301', 'seconds=x', 'frequency=1001', 'thread=z']) {
      assert.equal((await mesh.admin('a', `/debug/pprof/profile?${query}`)).status, 400, query);
    }
    const answers = await Promise.all(
      [1, 2].map(() => mesh.admin('a', '/debug/pprof/profile?seconds=1')),
    );
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 500]);
  });
});

describe('limits', () => {
  it('a pod with too many connections is refused more, by reason; the others are not', async () => {
    const clients = [];
    for (let i = 0; i < 3; i++) clients.push(await openClient('hello'));
    const refused = await mesh.ask('client', '10.77.0.3');
    assert.deepEqual([refused.status, refused.stdout], [3, '']);
    await eventually('it is counted by reason', async () => {
      const name = 'ambient_connections_refused_total';
      return (await mesh.metric('a', name, 'reason="limit_exceeded"', 'reporter="source"')) === 1;
    });
    await eventually('and logged', () =>
      mesh.log('a').includes('the pod has 3 connections, the limit is 3'),
    );
    assert.equal((await mesh.ask('other', '10.77.0.3')).status, 0);
    const [first] = (await connectionsOf('a')).pods;
    assert.partialDeepStrictEqual(first, { name: 'client', outbound: 3, limitedTotal: 1 });
    const use = (what: string): Promise<number> =>
      mesh.metric('a', `ambient_pod_${what}`, 'pod="client",namespace="default"');
    assert.equal(await use('connections'), 3);
    assert.equal(await use('connections_limited_total'), 1);
    assert.ok((await use('cpu_seconds_total')) > 0);
    assert.ok((await use('memory_bytes')) > 0);
    for (const client of clients) {
      client.stdin?.end();
      await once(client, 'close');
    }
    await eventually('none is counted', async () => (await use('connections')) === 0);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
  });
});

describe('log levels', () => {
  it('change in both threads while they run', async () => {
    const post = async (query: string): Promise<string> =>
      (await mesh.admin('a', `/logging?${query}`, 'POST')).text();
    assert.equal(await post('level=access=debug'), 'current log level is access=debug,info\n');
    const start = mesh.log('a').length;
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    // Lines are gathered for a moment: the last of this connection must not be taken for one of the next, nor one of the
    // test before for its last.
    await eventually('opening and end are logged', () => {
      const lines = mesh.log('a').slice(start).split('\n');
      const opened = lines.find((line) => line.includes('"connection opened"'));
      const [source] = /"src.addr":"[^"]+"/.exec(opened ?? '') ?? [];
      return (
        source !== undefined &&
        lines.some((line) => line.includes(source) && line.includes('"connection complete"'))
      );
    });
    await post('level=access=off');
    const before = mesh.log('a').length;
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    await eventually('it is closed', async () => (await connectionsOf('a')).connectionCount === 0);
    assert.equal(await post('reset'), 'current log level is info\n');
    assert.doesNotMatch(mesh.log('a').slice(before), /"scope":"access"/);
  });
});

describe('drain', () => {
  it('begins by POST, tells what is left and whose, and ends the process', async () => {
    const client = await openClient('hello');
    const idle = (await (await mesh.admin('a', '/drain')).json()) as object;
    assert.partialDeepStrictEqual(idle, { state: 'serving', connections: 1 });
    const begun = (await (await mesh.admin('a', '/drain', 'POST')).json()) as object;
    assert.partialDeepStrictEqual(begun, {
      state: 'draining',
      pods: [{ pod: 'default/client', inbound: 0, outbound: 1 }],
    });
    await eventually('connections says so', async () => (await connectionsOf('a')).isDraining);
    client.stdin?.end('bye\n');
    const [code] = (await once(client, 'close')) as [number | null];
    assert.equal(code, 0);
    await eventually('the log says drained', () => mesh.log('a').includes('"drained"'));
  });
});
