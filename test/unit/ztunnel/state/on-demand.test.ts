// Addresses asked for one by one: answers, absence, time limits and bounds; and the model behind it against a server that
// answers as istiod does (recorded in shape: names are uids, no aliases, absence by the name asked for).
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { AddressSchema } from '../../../../common/workload/gen/workload_pb.ts';
import { ADDRESS_TYPE_URL } from '../../../../common/workload/decode.ts';
import { AUTHORIZATION_TYPE_URL } from '../../../../common/policy/decode.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { DeltaClient } from '../../../../common/xds/delta-client.ts';
import type { DeltaPush } from '../../../../common/xds/delta-push.ts';
import type { DeltaDiscoveryRequest } from '../../../../common/xds/gen/discovery_pb.ts';
import { SecretManager } from '../../../../common/identity/secret-manager.ts';
import type { DataCommand } from '../../../../ztunnel/messages.ts';
import { MeshModel } from '../../../../ztunnel/state/model.ts';
import {
  ABSENT_MS,
  ANSWER_WAIT_MS,
  namesOf,
  OnDemand,
  referencesOf,
} from '../../../../ztunnel/state/on-demand.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

interface Play {
  readonly demand: OnDemand;
  readonly store: WorkloadStore;
  readonly clock: FakeClock;
  /** `+name` and `-name` as they were sent, a message each. */
  readonly sent: string[][];
  readonly forgotten: string[];
}

function setUp(limits: { maxAbsent?: number; maxUnanswered?: number } = {}): Play {
  const [store, clock] = [new WorkloadStore(), new FakeClock()];
  const sent: string[][] = [];
  const forgotten: string[] = [];
  const demand = new OnDemand({
    store,
    clock,
    changeNames: (added, dropped) =>
      sent.push([...added.map((name) => `+${name}`), ...dropped.map((name) => `-${name}`)]),
    onForgotten: (names) => forgotten.push(...names),
    ...limits,
  });
  return { demand, store, clock, sent, forgotten };
}

describe('OnDemand', () => {
  it('asks once for all who wait, in one message with others, and never again', async () => {
    const { demand, sent } = setUp();
    const all = [demand.fetch('/a'), demand.fetch('/a'), demand.fetch('/b')];
    await settle();
    assert.deepEqual(sent, [['+/a', '+/b']]);
    assert.deepEqual([...demand.unanswered], ['/a', '/b']);
    demand.applied(['/a'], ['/b']);
    assert.deepEqual(await Promise.all(all), [true, true, true]);
    assert.equal(await demand.fetch('/b'), true);
    assert.deepEqual([sent.length, [...demand.answered]], [1, ['/b', '/a']]);
  });

  it('waits some seconds; a late answer serves who asks then', async () => {
    const { demand, clock, sent } = setUp();
    const early = demand.fetch('/a');
    await clock.advance(ANSWER_WAIT_MS - 1);
    const late = demand.fetch('/a');
    await clock.advance(1);
    assert.equal(await early, false);
    demand.applied(['/a'], []);
    assert.equal(await late, true);
    assert.deepEqual([sent.length, clock.delaysMs], [1, []]);
  });

  it('takes no answer to a question that was not asked', () => {
    const { demand } = setUp();
    demand.applied(['/a'], ['/b']);
    assert.deepEqual([...demand.answered], []);
  });

  it('remembers what is absent within a bound, the oldest goes first', async () => {
    const { demand, sent, forgotten } = setUp({ maxAbsent: 2 });
    for (const name of ['/1', '/2', '/3']) void demand.fetch(name);
    await settle();
    demand.applied([], ['/1', '/2', '/3']);
    assert.deepEqual([sent.at(-1), forgotten], [['-/1'], ['/1']]);
    void demand.fetch('/1');
    await settle();
    assert.deepEqual(sent.at(-1), ['+/1']);
  });

  it('a name that comes to be is no longer counted as absent, one that goes is', async () => {
    const { demand, forgotten } = setUp({ maxAbsent: 1 });
    for (const name of ['/1', '/2']) void demand.fetch(name);
    demand.applied([], ['/1']);
    demand.applied(['/1'], ['/2']);
    assert.deepEqual(forgotten, []);
    demand.applied([], ['/1']);
    await settle();
    assert.deepEqual(forgotten, ['/2']);
  });

  it('believes for some seconds that nobody has an address; a name is told of when it comes to be', async () => {
    const { demand, clock, sent, forgotten } = setUp();
    for (const name of ['n/10.0.0.1', 'n/fd00::1', 'c1//Pod/shop/web']) void demand.fetch(name);
    await settle();
    demand.applied([], ['n/10.0.0.1', 'c1//Pod/shop/web']);
    await clock.advance(ABSENT_MS / 2);
    demand.applied([], ['n/fd00::1']);
    await clock.advance(ABSENT_MS / 2);
    assert.deepEqual(forgotten, ['n/10.0.0.1']);
    assert.deepEqual(sent.at(-1), ['-n/10.0.0.1']);
    await clock.advance(ABSENT_MS);
    assert.deepEqual(forgotten, ['n/10.0.0.1', 'n/fd00::1']);
    assert.deepEqual([...demand.answered], ['c1//Pod/shop/web']);
    assert.deepEqual(clock.delaysMs, []);
  });

  it('refuses at once when too many are waited for, and drops those nobody waits for', async () => {
    const { demand, clock, forgotten } = setUp({ maxUnanswered: 1 });
    const first = demand.fetch('/1');
    assert.equal(await demand.fetch('/2'), false);
    await clock.advance(ANSWER_WAIT_MS);
    assert.equal(await first, false);
    const second = demand.fetch('/2');
    assert.deepEqual(forgotten, ['/1']);
    demand.applied(['/2'], []);
    assert.equal(await second, true);
  });

  it('completes an address with the waypoints and gateways it leads to', async () => {
    const { demand, store, sent } = setUp();
    const done = demand.complete('/10.96.0.1');
    await settle();
    const waypoint = {
      kind: 'hostname',
      namespace: 'default',
      hostname: 'w',
      port: 15008,
    } as const;
    store.upsertService(makeService('web', '10.96.0.1', { waypoint }));
    demand.applied(['default/web.default.svc.cluster.local', '/10.96.0.1'], []);
    await settle();
    const networkGateway = { kind: 'address', network: 'n', ip: '1.1.1.1', port: 15008 } as const;
    store.upsertService(makeService('w', '', { hostname: 'w' }));
    store.upsertWorkload(
      makeWorkload('far', '', { networkGateway, network: 'n', services: { 'default/w': [] } }),
    );
    demand.applied(['default/w'], []);
    await settle();
    assert.deepEqual(sent, [['+/10.96.0.1'], ['+default/w'], ['+n/1.1.1.1']]);
    demand.applied([], ['n/1.1.1.1']);
    assert.equal(await done, true);
  });

  it('knows the names of resources and the references of an address', () => {
    const service = makeService('web', '10.96.0.1');
    assert.deepEqual(namesOf({ kind: 'service', service }, ['x']), [
      'default/web.default.svc.cluster.local',
      '/10.96.0.1',
      'x',
    ]);
    const workload = makeWorkload('a', '10.0.0.1', { network: 'n' });
    const names = namesOf({ kind: 'workload', workload }, []);
    assert.deepEqual(names, ['Kubernetes//Pod/default/a', 'n/10.0.0.1']);
    const store = new WorkloadStore();
    const self = { kind: 'address', network: 'n', ip: '10.0.0.1', port: 15008 } as const;
    store.upsertWorkload({ ...workload, waypoint: self, services: memberOf('web') });
    assert.deepEqual(referencesOf(store, 'n/10.0.0.1'), ['n/10.0.0.1'], 'a loop ends');
    assert.deepEqual(referencesOf(store, 'n/10.0.0.2'), []);
  });
});

describe('the model on demand, against a server that answers as istiod', () => {
  const clock = new FakeClock();
  const commands: DataCommand[] = [];
  const sent: DeltaDiscoveryRequest[] = [];
  const data = {
    request: (command: DataCommand) => {
      commands.push(command);
      return Promise.resolve({});
    },
  };
  const secrets = new SecretManager({
    clock,
    logger: quietLogger(),
    fetch: () => new Promise(() => undefined),
    onCertificate: () => undefined,
  });
  const onDemand = { clock, clusterId: 'c1' };
  const model = new MeshModel({ isLocal: ({ node }) => node === 'here', data, secrets, onDemand });
  let onResponse: (push: DeltaPush) => void = () => undefined;
  const client = new DeltaClient({
    ...{ nodeId: 'n', nodeMetadata: {}, clock, logger: quietLogger() },
    subscriptions: model.subscriptions(),
    openStream: (events) => {
      onResponse = (push) => events.onResponse(push);
      return { send: (request) => sent.push(request), close: () => undefined };
    },
  });
  model.askThrough((added, dropped) => client.changeNames(ADDRESS_TYPE_URL, added, dropped));
  const answer = async (
    resources: Record<string, Parameters<typeof create<typeof AddressSchema>>[1]>,
    removedResources: string[] = [],
  ): Promise<void> => {
    const list = Object.entries(resources).map(([name, init]) => {
      const value = toBinary(AddressSchema, create(AddressSchema, init));
      return { name, version: '', aliases: [], value };
    });
    onResponse({ typeUrl: ADDRESS_TYPE_URL, nonce: '1', removedResources, resources: list });
    await settle();
  };
  const asked = (): string[] =>
    sent.splice(0).flatMap((request) => [...request.resourceNamesSubscribe]);
  const states = (): Extract<DataCommand, { kind: 'state' }>[] =>
    commands.splice(0).filter((command) => command.kind === 'state');

  it('asks for the pod it is given, then for its services', async () => {
    client.start();
    model.expect({ namespace: 'shop', name: 'web-1', serviceAccount: 'web' });
    await settle();
    assert.deepEqual(
      sent.map(({ typeUrl }) => typeUrl),
      [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, ADDRESS_TYPE_URL],
    );
    assert.deepEqual(asked(), ['*', 'c1//Pod/shop/web-1']);
    const uid = 'c1//Pod/shop/web-1';
    const value = { uid, name: 'web-1', namespace: 'shop', node: 'here' };
    const services = { 'shop/web': { ports: [] } };
    await answer({ [uid]: { type: { case: 'workload', value: { ...value, services } } } });
    assert.deepEqual(asked(), ['shop/web']);
    assert.equal(states()[0]?.upserts.length, 1);
  });

  it('answers the data thread when the control plane has: with records, or that there are none', async () => {
    const found = model.answerLookup('n/10.0.0.7');
    const none = model.answerLookup('n/10.0.0.8');
    await settle();
    assert.deepEqual(asked(), ['n/10.0.0.7', 'n/10.0.0.8']);
    assert.deepEqual(states(), []);
    const value = { uid: 'u7', name: 'p', network: 'n', addresses: [Uint8Array.of(10, 0, 0, 7)] };
    await answer({ u7: { type: { case: 'workload', value } } }, ['n/10.0.0.8']);
    await Promise.all([found, none]);
    const seen = states();
    assert.deepEqual(seen.flatMap(({ answers }) => answers).sort(), ['n/10.0.0.7', 'n/10.0.0.8']);
    assert.equal(seen.flatMap(({ upserts }) => upserts).length, 1);
  });

  it('asks again for an address that a pod of the same name has left', async () => {
    asked();
    const value = { uid: 'u7', name: 'p', network: 'n', addresses: [Uint8Array.of(10, 0, 0, 17)] };
    await answer({ u7: { type: { case: 'workload', value } } });
    assert.deepEqual(
      sent.flatMap((request) => [...request.resourceNamesUnsubscribe]),
      ['n/10.0.0.7'],
    );
    assert.deepEqual(
      states().flatMap(({ forgotten }) => forgotten),
      ['n/10.0.0.7'],
    );
    const lookup = model.answerLookup('n/10.0.0.7');
    await settle();
    assert.deepEqual(asked(), ['n/10.0.0.7']);
    await answer({}, ['n/10.0.0.7']);
    await lookup;
    const [last] = states();
    assert.deepEqual([last?.answers, last?.upserts], [['n/10.0.0.7'], []]);
  });

  it('says that there was no answer', async () => {
    const lookup = model.answerLookup('n/10.0.0.9');
    await clock.advance(ANSWER_WAIT_MS);
    await lookup;
    assert.deepEqual(
      states().map(({ answers, unanswered }) => ({ answers, unanswered })),
      [{ answers: [], unanswered: ['n/10.0.0.9'] }],
    );
    client.close();
  });
});
