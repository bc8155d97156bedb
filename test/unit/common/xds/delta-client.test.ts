// The delta xDS client: a playbook of pushes and answers, then a real gRPC server over TCP.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { DeltaClient, subscribeWith } from '../../../../common/xds/delta-client.ts';
import type { DeltaClientOptions, StreamEnd } from '../../../../common/xds/delta-client.ts';
import { DeltaDiscoveryResponseSchema } from '../../../../common/xds/gen/discovery_pb.ts';
import { readDeltaPush } from '../../../../common/xds/delta-push.ts';
import type { DeltaPush } from '../../../../common/xds/delta-push.ts';
import type { DeltaDiscoveryRequest } from '../../../../common/xds/gen/discovery_pb.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const TYPE = 'type.example/T';

function push(nonce: string, resources: Record<string, string>, removed: string[] = []): DeltaPush {
  const response = create(DeltaDiscoveryResponseSchema, {
    typeUrl: TYPE,
    nonce,
    removedResources: removed,
    resources: Object.entries(resources).map(([name, value]) => ({
      name,
      version: `v-${value}`,
      resource: { typeUrl: TYPE, value: Buffer.from(value) },
    })),
  });
  return readDeltaPush(toBinary(DeltaDiscoveryResponseSchema, response));
}

interface Opened {
  readonly sent: DeltaDiscoveryRequest[];
  onResponse(push: DeltaPush): void;
  onEnd(end: StreamEnd): void;
}

function setUp(more: Partial<DeltaClientOptions> = {}): {
  client: DeltaClient;
  clock: FakeClock;
  streams: Opened[];
  applied: string[];
  state: { gate: Promise<unknown>; synced: number };
} {
  const clock = new FakeClock();
  const streams: Opened[] = [];
  const applied: string[] = [];
  const state: { gate: Promise<unknown>; synced: number } = { gate: Promise.resolve(), synced: 0 };
  const client = new DeltaClient({
    nodeId: 'node',
    nodeMetadata: { NAME: 'n' },
    clock,
    logger: quietLogger(),
    onSynced: () => {
      state.synced++;
    },
    subscriptions: [
      subscribeWith(
        TYPE,
        (value) => {
          const text = Buffer.from(value).toString();
          if (text === 'bad') throw new Error('cannot read it');
          return text;
        },
        async ({ upserts, removed }) => {
          await state.gate;
          for (const { name, resource } of upserts) applied.push(`${name}=${resource}`);
          for (const name of removed) applied.push(`-${name}`);
        },
      ),
    ],
    openStream: (events) => {
      const opened: Opened = { sent: [], ...events };
      streams.push(opened);
      return { send: (request) => opened.sent.push(request), close: () => undefined };
    },
    ...more,
  });
  return { client, clock, streams, applied, state };
}

describe('DeltaClient', () => {
  it('subscribes by wildcard with its node, and acknowledges', async () => {
    const { client, streams, applied, state } = setUp();
    client.start();
    const [stream] = streams;
    assert.equal(stream?.sent[0]?.node?.id, 'node');
    assert.deepEqual(stream.sent[0].resourceNamesSubscribe, []);
    stream.onResponse(push('1', { a: '1' }));
    await settle();
    assert.deepEqual(applied, ['a=1']);
    assert.partialDeepStrictEqual(stream.sent[1], { typeUrl: TYPE, responseNonce: '1' });
    assert.equal(stream.sent[1]?.errorDetail, undefined);
    assert.equal(stream.sent[1]?.node, undefined);
    assert.equal(state.synced, 1);
    client.close();
  });

  it('acknowledges only after the push was applied', async () => {
    const { client, streams, state } = setUp();
    const { promise, resolve: open } = Promise.withResolvers<undefined>();
    state.gate = promise;
    client.start();
    streams[0]?.onResponse(push('1', { a: '1' }));
    await settle();
    assert.equal(streams[0]?.sent.length, 1);
    open(undefined);
    await settle();
    assert.equal(streams[0].sent.length, 2);
    client.close();
  });

  it('rejects only the bad resource, by name, and is not warm by it', async () => {
    const { client, streams, applied, state } = setUp();
    client.start();
    streams[0]?.onResponse(push('1', { a: '1', b: 'bad' }));
    await settle();
    assert.deepEqual(applied, ['a=1']);
    assert.equal(streams[0]?.sent[1]?.errorDetail?.message, 'b: cannot read it');
    assert.equal(state.synced, 0);
    streams[0].onResponse(push('2', { b: '2' }));
    await settle();
    assert.equal(state.synced, 1);
    client.close();
  });

  it('applies a large push in slices, lets others run between them, and acknowledges at the end', async () => {
    const slices: string[] = [];
    let answersMeanwhile = 0;
    const subscription = subscribeWith(
      TYPE,
      () => 0,
      ({ upserts, removed }) => {
        slices.push(`${upserts.length} -${removed.length}`);
        if (slices.length === 1)
          setImmediate(() => (answersMeanwhile = streams[0]?.sent.length ?? 0));
      },
    );
    const { client, streams } = setUp({ subscriptions: [subscription] });
    client.start();
    const many = Array.from({ length: 600 }, (_, i) => [`r${i}`, 'x'] as const);
    streams[0]?.onResponse(push('1', Object.fromEntries(many), ['gone']));
    while (slices.length < 3) await new Promise(setImmediate);
    await settle();
    assert.deepEqual(slices, ['256 -0', '256 -0', '88 -1']);
    assert.equal(answersMeanwhile, 1, 'only the subscription had been sent');
    assert.equal(streams[0]?.sent[1]?.responseNonce, '1');
    client.close();
  });

  it('echoes what it kept when it reconnects', async () => {
    const { client, clock, streams } = setUp();
    client.start();
    streams[0]?.onResponse(push('1', { a: '1', b: 'bad', c: '3' }));
    streams[0]?.onResponse(push('2', {}, ['c']));
    await settle();
    streams[0]?.onEnd({ reason: 'Reconnect', detail: '' });
    await clock.advance(20);
    assert.deepEqual(streams[1]?.sent[0]?.initialResourceVersions, { a: 'v-1' });
    client.close();
  });

  it('on demand subscribes to nothing, is warm at once, and comes back with what it knows', async () => {
    const wanted = { answered: ['a'], unanswered: ['b'] };
    const subscription = subscribeWith(
      TYPE,
      () => 0,
      () => undefined,
      wanted,
    );
    const { client, clock, streams } = setUp({ subscriptions: [subscription] });
    client.changeNames(TYPE, ['too early'], []);
    client.start();
    const names = (stream: number): string[][] =>
      (streams[stream]?.sent ?? []).map((request) => [
        ...request.resourceNamesSubscribe,
        ...request.resourceNamesUnsubscribe.map((name) => `-${name}`),
      ]);
    assert.deepEqual(names(0), [['*', 'a', '-*'], ['b']]);
    client.changeNames(TYPE, ['c'], ['a']);
    client.changeNames(TYPE, [], []);
    assert.deepEqual(names(0).slice(2), [['c', '-a']]);
    streams[0]?.onResponse(push('1', { x: '1' }));
    await settle();
    assert.equal(client.isSynced, true);
    streams[0]?.onEnd({ reason: 'Reconnect', detail: '' });
    await clock.advance(20);
    assert.deepEqual(names(1), [['*', 'a', '-*'], ['b']]);
    assert.deepEqual(streams[1]?.sent[0]?.initialResourceVersions, { x: 'v-1' });
    client.close();
  });

  it('names what the last stream brought in the next one, also when it ended meanwhile', async () => {
    const { client, clock, streams, state } = setUp();
    const { promise, resolve: open } = Promise.withResolvers<undefined>();
    state.gate = promise;
    client.start();
    streams[0]?.onResponse(push('1', { a: '1' }));
    streams[0]?.onResponse(push('2', { b: '1' }));
    await settle();
    streams[0]?.onEnd({ reason: 'Error', detail: 'gone' });
    clock.advance(1000);
    await settle();
    assert.equal(streams.length, 1);
    open(undefined);
    await settle();
    assert.deepEqual(streams[1]?.sent[0]?.initialResourceVersions, { a: 'v-1', b: 'v-1' });
    assert.equal(streams.length, 2);
    client.close();
  });

  it('does not come back when it is closed while a push is applied', async () => {
    const { client, clock, streams, state } = setUp();
    const { promise, resolve: open } = Promise.withResolvers<undefined>();
    state.gate = promise;
    client.start();
    streams[0]?.onResponse(push('1', { a: '1' }));
    streams[0]?.onEnd({ reason: 'Error', detail: 'gone' });
    clock.advance(1000);
    client.close();
    open(undefined);
    await settle();
    assert.equal(streams.length, 1);
  });

  it('ignores late events of an ended stream', async () => {
    const { client, clock, streams, applied } = setUp();
    client.start();
    streams[0]?.onEnd({ reason: 'Error', detail: '' });
    await clock.advance(20);
    streams[0]?.onResponse(push('1', { a: '1' }));
    await settle();
    assert.deepEqual(applied, []);
    client.close();
  });

  it('waits twice as long each time until a stream has brought something', async () => {
    const { client, clock, streams } = setUp();
    client.start();
    const waitAfter = async (reason: StreamEnd['reason'], hasAnswered = false): Promise<number> => {
      if (hasAnswered) streams.at(-1)?.onResponse(push('1', { a: '1' }));
      await settle();
      streams.at(-1)?.onEnd({ reason, detail: '' });
      const [delayMs = 0] = clock.delaysMs;
      await clock.advance(delayMs);
      return delayMs;
    };
    assert.equal(await waitAfter('ConnectionError'), 20);
    assert.equal(await waitAfter('ConnectionError'), 40);
    assert.equal(await waitAfter('Error'), 80);
    assert.equal(await waitAfter('Reconnect'), 160, 'ended again without a word');
    assert.equal(await waitAfter('Reconnect', true), 20);
    assert.equal(await waitAfter('Error', true), 20);
    assert.equal(await waitAfter('Complete'), 40);
    client.close();
  });

  it('backs off while the server ends every stream at once', async () => {
    const { client, clock, streams } = setUp();
    client.start();
    const waits: number[] = [];
    for (let i = 0; i < 12; i++) {
      streams.at(-1)?.onEnd({ reason: 'Complete', detail: '' });
      waits.push(clock.delaysMs[0] ?? 0);
      await clock.advance(clock.delaysMs[0] ?? 0);
    }
    assert.deepEqual(waits.slice(0, 4), [20, 40, 80, 160]);
    assert.equal(waits.at(-1), 15_000);
    client.close();
  });
});
