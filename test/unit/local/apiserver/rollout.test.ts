import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planRollout } from '../../../../local/apiserver/controllers/rollout.ts';
import type { SetSize } from '../../../../local/apiserver/controllers/rollout.ts';
import { resolveShare } from '../../../../local/apiserver/controllers/pods.ts';

const size = (replicas: number, available = replicas): SetSize => ({
  replicas,
  available,
  running: replicas,
});

describe('planRollout', () => {
  const rolling = { desired: 4, recreate: false, maxSurge: 1, maxUnavailable: 1 };
  const rows: [string, Parameters<typeof planRollout>[0], ReturnType<typeof planRollout>][] = [
    [
      'starts a new deployment at full size',
      { ...rolling, current: size(0), others: [] },
      { current: 4, others: [] },
    ],
    [
      'surges by one and frees one old pod',
      { ...rolling, current: size(0), others: [size(4)] },
      { current: 1, others: [3] },
    ],
    [
      'waits for the new pods to become available',
      { ...rolling, current: size(2, 0), others: [size(3)] },
      { current: 2, others: [3] },
    ],
    [
      'takes pods away that are not available first',
      { ...rolling, current: size(0), others: [size(4, 2)] },
      { current: 1, others: [3] },
    ],
    [
      'ends with the new set alone',
      { ...rolling, current: size(4), others: [size(1)] },
      { current: 4, others: [0] },
    ],
    [
      'moves even when nothing may surge or be unavailable',
      { ...rolling, maxSurge: 0, maxUnavailable: 0, current: size(0), others: [size(4)] },
      { current: 0, others: [3] },
    ],
    [
      'recreates only when the old pods are gone',
      {
        ...rolling,
        recreate: true,
        current: size(0),
        others: [{ replicas: 0, available: 0, running: 1 }],
      },
      { current: 0, others: [0] },
    ],
    [
      'recreates when they are gone',
      { ...rolling, recreate: true, current: size(0), others: [size(0)] },
      { current: 4, others: [0] },
    ],
  ];
  for (const [name, input, expected] of rows) {
    it(name, () => assert.deepEqual(planRollout(input), expected));
  }

  it('never drops below the minimum nor above the maximum, and always finishes', () => {
    for (let desired = 1; desired <= 6; desired += 1) {
      for (const [maxSurge, maxUnavailable] of [
        [1, 0],
        [0, 1],
        [2, 1],
        [1, 1],
      ] as const) {
        let current = size(0);
        let old = size(desired);
        for (let step = 0; step < 50; step += 1) {
          const plan = planRollout({
            desired,
            recreate: false,
            maxSurge,
            maxUnavailable,
            current,
            others: [old],
          });
          const total = plan.current + (plan.others[0] ?? 0);
          assert.ok(total <= desired + maxSurge, 'above the maximum');
          const available =
            Math.min(current.available, plan.current) +
            Math.min(old.available, plan.others[0] ?? 0);
          assert.ok(
            available >= desired - Math.max(maxUnavailable, maxSurge === 0 ? 1 : 0),
            'below the minimum',
          );
          // One more new pod becomes available at each step.
          current = size(plan.current, Math.min(plan.current, current.available + 1));
          old = size(plan.others[0] ?? 0);
        }
        assert.deepEqual([current.available, old.replicas], [desired, 0]);
      }
    }
  });
});

describe('resolveShare', () => {
  it('rounds percentages as asked', () => {
    assert.equal(resolveShare('25%', 3, true), 1);
    assert.equal(resolveShare('25%', 3, false), 0);
    assert.equal(resolveShare(2, 3, true), 2);
    assert.equal(resolveShare(undefined, 3, true), 0);
  });
});
