// Delta xDS server as playbooks: requests in, pushes out.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { DeltaServer } from '../../../../common/xds/delta-server.ts';
import type { DeltaSession, ServedResource } from '../../../../common/xds/delta-server.ts';
import { DeltaDiscoveryRequestSchema } from '../../../../common/xds/gen/discovery_pb.ts';
import type { DeltaDiscoveryResponse } from '../../../../common/xds/gen/discovery_pb.ts';

const TYPE = 'type.googleapis.com/test.Thing';

interface RequestFields {
  node?: boolean;
  type?: string;
  add?: string[];
  drop?: string[];
  held?: Record<string, string>;
  nonce?: string;
  error?: string;
}

/** A server with one type and one client. */
class Play {
  generation = 1;
  things = new Map<string, ServedResource>();
  aliases = new Map<string, string[]>();
  pushes: DeltaDiscoveryResponse[] = [];
  nacks: string[] = [];
  readonly server = new DeltaServer({
    snapshotOf: (type) =>
      type === TYPE
        ? {
            generation: this.generation,
            resources: this.things,
            lookup: (name) => this.aliases.get(name) ?? [],
            unasked: () => this.aliases.get('unasked') ?? [],
          }
        : undefined,
    events: { onNack: (_node, _type, message) => this.nacks.push(message) },
  });
  readonly session: DeltaSession = this.server.open((push) => this.pushes.push(push));

  set(things: Record<string, string>): this {
    this.generation++;
    this.things = new Map(
      Object.entries(things).map(([name, version]) => [
        name,
        { name, version, value: Buffer.from(version) },
      ]),
    );
    return this;
  }

  publish(): this {
    this.server.publish();
    return this;
  }

  request(fields: RequestFields = {}): this {
    this.session.onRequest(
      create(DeltaDiscoveryRequestSchema, {
        typeUrl: fields.type ?? TYPE,
        resourceNamesSubscribe: fields.add ?? [],
        resourceNamesUnsubscribe: fields.drop ?? [],
        initialResourceVersions: fields.held ?? {},
        responseNonce: fields.nonce ?? '',
        ...(fields.node === false
          ? {}
          : { node: { id: 'ztunnel~1.1.1.1~a.b~b.svc.cluster.local' } }),
        ...(fields.error === undefined ? {} : { errorDetail: { code: 0, message: fields.error } }),
      }),
    );
    return this;
  }

  ack(error?: string): this {
    const nonce = this.pushes.at(-1)?.nonce ?? '';
    return this.request({ nonce, ...(error === undefined ? {} : { error }) });
  }

  /** Of the first resource of the first push since. */
  toldAliases(): readonly string[] | undefined {
    return this.pushes[0]?.resources[0]?.aliases;
  }

  /** What the pushes since the last call said: `name=version` and `-name`. */
  take(): string[][] {
    return this.pushes
      .splice(0)
      .map((push) => [
        ...push.resources.map(({ name, version }) => `${name}=${version}`),
        ...push.removedResources.map((name) => `-${name}`),
      ]);
  }
}

describe('delta server', () => {
  it('answers a wildcard with everything, also when that is nothing', () => {
    assert.deepEqual(new Play().request().take(), [[]]);
    assert.deepEqual(new Play().set({ a: '1', b: '1' }).request().take(), [['a=1', 'b=1']]);
    assert.deepEqual(
      new Play()
        .set({ a: '1' })
        .request({ add: ['*'] })
        .take(),
      [['a=1']],
    );
  });

  it('sends only what changed, and removals by name', () => {
    const play = new Play().set({ a: '1', b: '1' }).request().ack();
    play.take();
    play.set({ a: '2', c: '1' }).publish();
    assert.deepEqual(play.take(), [['a=2', 'c=1', '-b']]);
  });

  it('sends nothing when nothing changed', () => {
    const play = new Play().set({ a: '1' }).request().ack();
    play.take();
    play.set({ a: '1' }).publish();
    assert.deepEqual(play.take(), []);
  });

  it('resumes from the versions a reconnecting client holds', () => {
    const play = new Play().set({ a: '1', b: '2' });
    play.request({ held: { a: '1', b: '1', gone: '1' } });
    assert.deepEqual(play.take(), [['b=2', '-gone']]);
  });

  it('has one push under way and joins what changes meanwhile', () => {
    const play = new Play().set({ a: '1' }).request();
    const nonce = play.pushes[0]?.nonce ?? '';
    play.take();
    play.set({ a: '2' }).publish().set({ a: '3', b: '1' }).publish();
    assert.deepEqual(play.take(), []);
    play.request({ nonce });
    assert.deepEqual(play.take(), [['a=3', 'b=1']]);
  });

  it('ignores an answer to another nonce', () => {
    const play = new Play().set({ a: '1' }).request();
    play.take();
    play.set({ a: '2' }).publish().request({ nonce: '99' });
    assert.deepEqual(play.take(), []);
  });

  it('reports a nack, counts it as an answer, and does not repeat the push', () => {
    const play = new Play().set({ a: '1' }).request().ack('a: bad');
    play.take();
    assert.deepEqual(play.nacks, ['a: bad']);
    assert.equal(play.session.status()[0]?.lastError, 'a: bad');
    assert.equal(play.server.isAcked(TYPE, play.generation), true);
    play.publish();
    assert.deepEqual(play.take(), []);
  });

  it('subscribes to nothing by subscribe and unsubscribe of the wildcard', () => {
    const play = new Play().set({ a: '1' }).request({ add: ['*'], drop: ['*'] });
    assert.deepEqual(play.take(), [[]]);
  });

  it('serves names on demand, aliases included, and denies unknown ones', () => {
    const play = new Play().set({ a: '1', b: '1' });
    play.aliases.set('/10.0.0.1', ['b']);
    play.request({ add: ['*'], drop: ['*'] }).ack();
    play.take();
    play.request({ add: ['a'] }).ack();
    assert.deepEqual(play.take(), [['a=1']]);
    play.request({ add: ['/10.0.0.1'] }).ack();
    assert.deepEqual(play.take(), [['b=1']]);
    play.request({ add: ['nobody'] }).ack();
    assert.deepEqual(play.take(), [['-nobody']]);
    play.set({ a: '1', b: '2', nobody: '1' }).publish();
    assert.deepEqual(play.take(), [['b=2', 'nobody=1']]);
  });

  it('says on demand which questions a resource answers, also when the client has it', () => {
    const play = new Play().set({ a: '1', b: '1' });
    play.aliases.set('/10.0.0.1', ['a']).set('/10.0.0.2', ['a']).set('unasked', ['a']);
    play.request({ add: ['*'], drop: ['*'] });
    assert.deepEqual(play.toldAliases(), []);
    play.ack();
    assert.deepEqual(play.take(), [['a=1']], 'unasked');
    play.request({ add: ['/10.0.0.1'] });
    assert.deepEqual(play.toldAliases(), ['/10.0.0.1']);
    play.ack();
    assert.deepEqual(play.take(), [['a=1']]);
    play.request({ add: ['/10.0.0.2'] }).ack();
    assert.deepEqual(play.toldAliases(), ['/10.0.0.1', '/10.0.0.2']);
  });

  it('goes on with what a client holds that does not repeat its questions', () => {
    const play = new Play().set({ a: '2', b: '1' });
    play.request({ add: ['*'], drop: ['*'], held: { a: '1', gone: '1' } }).ack();
    assert.deepEqual(play.take(), [['a=2', '-gone']]);
    play.set({ a: '3', b: '2' }).publish();
    assert.deepEqual(play.take(), [['a=3']]);
  });

  it('forgets a name that is unsubscribed', () => {
    const play = new Play()
      .set({ a: '1' })
      .request({ add: ['a'] })
      .ack();
    play.take();
    play.request({ drop: ['a'] });
    play.set({ a: '2' }).publish();
    assert.deepEqual(play.take(), []);
  });

  it('splits a large answer', () => {
    const play = new Play().set(
      Object.fromEntries(Array.from({ length: 12_000 }, (_, i) => [`r${i}`, '1'])),
    );
    play.request();
    const sizes = [];
    for (let i = 0; i < 3; i++) {
      sizes.push(play.pushes.at(-1)?.resources.length);
      if (i < 2) assert.equal(play.server.isAcked(TYPE, play.generation), false);
      play.ack();
    }
    assert.deepEqual(sizes, [5000, 5000, 2000]);
    assert.equal(play.server.isAcked(TYPE, play.generation), true);
  });

  it('says when all clients have confirmed a generation', async () => {
    const play = new Play().set({ a: '1' }).request().ack();
    play.set({ a: '2' }).publish();
    const waiting = play.server.whenAcked(TYPE, play.generation, AbortSignal.timeout(5000));
    assert.equal(play.server.isAcked(TYPE, play.generation), false);
    play.ack();
    assert.equal(await waiting, true);
  });

  it('does not wait for a client that has gone, and gives up when told', async () => {
    const play = new Play().set({ a: '1' }).request().ack();
    play.set({ a: '2' }).publish();
    const stop = new AbortController();
    const first = play.server.whenAcked(TYPE, play.generation, stop.signal);
    stop.abort();
    assert.equal(await first, false);
    const second = play.server.whenAcked(TYPE, play.generation, AbortSignal.timeout(5000));
    play.session.close();
    assert.equal(await second, true);
    assert.equal(play.server.sessions.size, 0);
  });

  it('refuses a first request without a node, and too many types', () => {
    assert.throws(() => new Play().request({ node: false }), { code: 'xds_node' });
    const play = new Play();
    assert.throws(
      () => {
        for (let i = 0; i < 20; i++) play.request({ type: `t${i}` });
      },
      { code: 'xds_limit' },
    );
  });
});
