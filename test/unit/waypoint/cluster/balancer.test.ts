// Balancing and outlier ejection.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Cluster_LbPolicy, OutlierDetectionSchema } from '../../../../common/l7/gen/l7_pb.ts';
import type { Workload } from '../../../../common/workload/model.ts';
import { pickEndpoint, recordOutcome } from '../../../../waypoint/cluster/balancer.ts';
import type { PickInput } from '../../../../waypoint/cluster/balancer.ts';
import { createEndpoint } from '../../../../waypoint/cluster/endpoint.ts';
import type { Endpoint } from '../../../../waypoint/cluster/endpoint.ts';

function endpoints(count: number): Endpoint[] {
  return Array.from({ length: count }, (_, at) => createEndpoint(`e${at}`, {} as Workload, 80));
}

function picker(
  list: readonly Endpoint[],
  policy: Cluster_LbPolicy,
  more: Partial<PickInput> = {},
): () => string {
  const cursor = { next: -1 };
  return () =>
    pickEndpoint(cursor, {
      policy,
      endpoints: list,
      nowMs: 0,
      tried: undefined,
      random: Math.random,
      ...more,
    })?.key ?? 'none';
}

describe('pickEndpoint', () => {
  it('goes round', () => {
    const pick = picker(endpoints(3), Cluster_LbPolicy.ROUND_ROBIN);
    assert.deepEqual([pick(), pick(), pick(), pick()], ['e0', 'e1', 'e2', 'e0']);
  });

  it('takes the less busy of two', () => {
    const list = endpoints(2);
    const [busy] = list;
    if (busy !== undefined) busy.activeRequests = 5;
    const pick = picker(list, Cluster_LbPolicy.LEAST_REQUEST);
    for (let i = 0; i < 20; i++) assert.equal(pick(), 'e1');
  });

  it('spreads least request over all when none is busy', () => {
    const pick = picker(endpoints(3), Cluster_LbPolicy.LEAST_REQUEST);
    const seen = new Set(Array.from({ length: 200 }, pick));
    assert.equal(seen.size, 3);
  });

  it('leaves out tried and ejected ones while there are others', () => {
    const list = endpoints(3);
    const [first] = list;
    if (first !== undefined) first.ejectedUntilMs = 100;
    const pick = picker(list, Cluster_LbPolicy.RANDOM, { tried: new Set(['e1']) });
    for (let i = 0; i < 20; i++) assert.equal(pick(), 'e2');
  });

  it('takes an ejected one rather than none, and nothing of nothing', () => {
    const list = endpoints(1);
    const [first] = list;
    if (first !== undefined) first.ejectedUntilMs = 100;
    assert.equal(picker(list, Cluster_LbPolicy.RANDOM)(), 'e0');
    assert.equal(picker([], Cluster_LbPolicy.RANDOM)(), 'none');
  });
});

describe('recordOutcome', () => {
  const detection = create(OutlierDetectionSchema, {
    consecutive5xx: 3,
    baseEjectionMs: 1000,
    maxEjectionPercent: 50,
  });

  function fail(
    list: readonly Endpoint[],
    at: number,
    times: number,
    nowMs: number,
    status = 500,
  ): void {
    const endpoint = list[at];
    if (endpoint === undefined) return;
    for (let i = 0; i < times; i++) recordOutcome(endpoint, list, detection, status, nowMs);
  }

  it('ejects after enough failures in a row, longer each time', () => {
    const list = endpoints(4);
    fail(list, 0, 2, 0);
    fail(list, 0, 1, 0, 200);
    fail(list, 0, 2, 0);
    assert.equal(list[0]?.ejectedUntilMs, 0);
    fail(list, 0, 1, 0);
    assert.equal(list[0].ejectedUntilMs, 1000);
    fail(list, 0, 3, 2000);
    assert.equal(list[0].ejectedUntilMs, 4000);
  });

  it('counts no response as a failure', () => {
    const list = endpoints(2);
    fail(list, 1, 3, 0, 0);
    assert.equal(list[1]?.ejectedUntilMs, 1000);
  });

  it('ejects at most the allowed share, but always one', () => {
    const list = endpoints(4);
    for (const at of [0, 1, 2]) fail(list, at, 3, 0);
    assert.equal(list.filter(({ ejectedUntilMs }) => ejectedUntilMs > 0).length, 2);
    const alone = endpoints(1);
    fail(alone, 0, 3, 0);
    assert.equal(alone[0]?.ejectedUntilMs, 1000);
  });
});
