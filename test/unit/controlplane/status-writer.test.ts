// What is written into status, and what is left alone.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { conditionsPatch, parentsPatch } from '../../../controlplane/status/status-writer.ts';

const ours = {
  type: 'WaypointAccepted',
  status: 'True',
  reason: 'Accepted',
  message: 'm',
} as const;
const theirs = {
  type: 'Other',
  status: 'True',
  reason: 'x',
  message: 'y',
  lastTransitionTime: 'T0',
} as const;

describe('status patch', () => {
  it('adds a condition beside those of others', () => {
    assert.deepEqual(conditionsPatch([theirs], [ours], 'T1'), {
      conditions: [theirs, { ...ours, lastTransitionTime: 'T1' }],
    });
  });

  it('is nothing when nothing differs', () => {
    assert.equal(conditionsPatch([theirs], [], 'T1'), undefined);
    assert.equal(
      conditionsPatch([theirs, { ...ours, lastTransitionTime: 'T1' }], [ours], 'T2'),
      undefined,
    );
  });

  it('keeps the time while the status is the same, and renews it when it turns', () => {
    const live = [{ ...ours, lastTransitionTime: 'T1' }];
    const reworded = conditionsPatch(live, [{ ...ours, message: 'n' }], 'T2');
    assert.equal(reworded?.conditions[0]?.lastTransitionTime, 'T1');
    const turned = conditionsPatch(live, [{ ...ours, status: 'False' }], 'T2');
    assert.equal(turned?.conditions[0]?.lastTransitionTime, 'T2');
  });

  it('removes ours that no longer apply', () => {
    assert.deepEqual(conditionsPatch([theirs, ours], [], 'T1'), { conditions: [theirs] });
  });

  it('replaces our parents and keeps those of other controllers', () => {
    const parentRef = { kind: 'Service', group: '', name: 'a' };
    const foreign = { parentRef, controllerName: 'example.com/x', conditions: [theirs] };
    const wanted = { parentRef, controllerName: 'istio.io/gateway-controller', conditions: [ours] };
    const first = parentsPatch([foreign], [wanted], 'T1');
    assert.deepEqual(first?.parents[0], foreign);
    assert.equal(first.parents[1]?.conditions?.[0]?.type, 'WaypointAccepted');
    assert.equal(parentsPatch(first.parents, [wanted], 'T2'), undefined);
    assert.deepEqual(parentsPatch(first.parents, [], 'T2'), { parents: [foreign] });
  });
});
