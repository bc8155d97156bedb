// The informer against a small HTTP server that plays the Kubernetes API's list and watch, faults included.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, it } from 'node:test';
import { systemClock } from '../../../../common/clock.ts';
import { KubeClient } from '../../../../common/kube/client.ts';
import { Informer } from '../../../../common/kube/informer.ts';
import { KINDS } from '../../../../common/kube/resource.ts';
import { createLoggerRoot } from '../../../../common/telemetry/logger.ts';

type Answer = (request: IncomingMessage, response: ServerResponse, url: URL) => void;

const closers: Array<() => void> = [];
after(() => closers.forEach((close) => close()));

async function setUp(answers: Answer[]) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://x');
    const { searchParams: query } = url;
    const from = query.get('resourceVersion') ?? '';
    const page = query.get('continue') ?? '';
    asked.push(query.has('watch') ? `watch ${from}` : `list${page === '' ? '' : ` ${page}`}`);
    const answer = answers.shift();
    if (answer !== undefined) answer(request, response, url);
    // Otherwise the watch stays open and says nothing.
    else response.writeHead(200).flushHeaders();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = new KubeClient({
    server: new URL(`http://127.0.0.1:${port}`),
    tls: {},
    namespace: 'default',
    authorization: () => Promise.resolve(undefined),
  });
  const changes: string[] = [];
  const stop = new AbortController();
  const informer = new Informer({
    client,
    kind: KINDS.pods,
    clock: systemClock,
    logger: createLoggerRoot({ level: 'off' }).scope('test'),
    random: () => 0,
    onChange: ({ key, current, previous }) =>
      changes.push(`${current === undefined ? '-' : previous === undefined ? '+' : '~'}${key}`),
    onAppeared: () => changes.push('appeared'),
  });
  const done = informer.run(stop.signal);
  closers.push(() => {
    stop.abort();
    client.close();
    server.close();
    server.closeAllConnections();
  });
  const until = async (isDone: () => boolean): Promise<void> => {
    const deadline = Date.now() + 10_000;
    while (!isDone()) {
      assert.ok(Date.now() < deadline, `in time; asked ${asked.join(', ')}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  return { asked, changes, informer, until, stop, done };
}

const pod = (name: string, resourceVersion: string) => ({
  metadata: { namespace: 'a', name, resourceVersion, managedFields: [{}] },
});
const list =
  (resourceVersion: string, items: object[], next?: string): Answer =>
  (_request, response) =>
    response.end(JSON.stringify({ metadata: { resourceVersion, continue: next }, items }));
const watch =
  (...events: object[]): Answer =>
  (_request, response) => {
    response.writeHead(200);
    response.end(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  };
const fail =
  (status: number): Answer =>
  (_request, response) => {
    response.writeHead(status);
    response.end(JSON.stringify({ message: 'no', reason: 'Test' }));
  };

describe('informer', () => {
  it('lists in pages, then watches from the version of the list', async () => {
    const { asked, changes, until, informer } = await setUp([
      list('5', [pod('x', '1')], 'next'),
      list('5', [pod('y', '2')]),
    ]);
    await until(() => asked.length === 3);
    assert.deepEqual(asked, ['list', 'list next', 'watch 5']);
    assert.deepEqual(changes, ['+a/x', '+a/y']);
    assert.equal(informer.hasSynced, true);
    assert.deepEqual(informer.objects.get('a/x'), {
      metadata: { namespace: 'a', name: 'x', resourceVersion: '1' },
    });
  });

  it('resumes at the last bookmark or event', async () => {
    const { asked, changes, until } = await setUp([
      list('5', [pod('x', '1')]),
      watch(
        { type: 'MODIFIED', object: pod('x', '6') },
        { type: 'DELETED', object: pod('x', '7') },
        { type: 'BOOKMARK', object: { metadata: { resourceVersion: '9' } } },
      ),
    ]);
    await until(() => asked.length === 3);
    assert.deepEqual(asked, ['list', 'watch 5', 'watch 9']);
    assert.deepEqual(changes, ['+a/x', '~a/x', '-a/x']);
  });

  it('lists again when the version is too old, and finds what was missed', async () => {
    for (const gone of [
      fail(410),
      watch({ type: 'ERROR', object: { code: 410, message: 'too old' } }),
    ]) {
      const { asked, changes, until } = await setUp([
        list('5', [pod('x', '1'), pod('y', '2')]),
        gone,
        list('20', [pod('x', '1'), pod('z', '15')]),
      ]);
      await until(() => asked.length === 4);
      assert.deepEqual(asked, ['list', 'watch 5', 'list', 'watch 20']);
      assert.deepEqual(changes, ['+a/x', '+a/y', '+a/z', '-a/y']);
    }
  });

  it('keeps its copy while the server fails, and backs off', async () => {
    const { asked, informer, until } = await setUp([
      list('5', [pod('x', '1')]),
      fail(500),
      (_request, response) => response.destroy(),
      fail(503),
    ]);
    await until(() => asked.length === 5);
    assert.deepEqual(asked, ['list', 'watch 5', 'watch 5', 'watch 5', 'watch 5']);
    assert.equal(informer.objects.size, 1);
  });

  it('counts a missing kind as empty and says when it appears', async () => {
    const { changes, informer, until } = await setUp([fail(404), list('5', [pod('x', '1')])]);
    await until(() => informer.hasSynced);
    assert.equal(informer.isAbsent, true);
    await until(() => changes.length === 2);
    assert.deepEqual(changes, ['+a/x', 'appeared']);
    assert.equal(informer.isAbsent, false);
  });

  it('ends when told', async () => {
    const { asked, until, stop, done } = await setUp([list('5', [])]);
    await until(() => asked.length === 2);
    stop.abort();
    await done;
  });
});
