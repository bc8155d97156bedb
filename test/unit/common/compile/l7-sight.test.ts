// Which pods' connections the node proxies are told to observe.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { Pod } from '../../../../common/compile/types.ts';
import { L7_SIGHT_EXTENSION } from '../../../../common/workload/extensions.ts';
import { MESH, makePod } from '../../../support/kube-objects.ts';

const SWITCH = 'ambient-mesh.io/l7-sight';
const namespace = (labels: Record<string, string>): object => ({
  metadata: { name: 'app', labels },
});

function isAnnounced(pod: Pod, labels: Record<string, string>): boolean {
  const { addresses } = compile({ mesh: MESH, namespaces: [namespace(labels)], pods: [pod] });
  const [address] = addresses.values();
  assert.equal(address?.type.case, 'workload');
  return address.type.value.extensions.some(({ name }) => name === L7_SIGHT_EXTENSION);
}

const CASES: readonly (readonly [string, boolean, Pod, string?])[] = [
  ['a namespace that asks for it', true, makePod('web', {}), 'enabled'],
  ['a namespace that does not ask', false, makePod('web', {})],
  ['another word', false, makePod('web', {}), 'yes'],
  [
    'a pod outside the mesh',
    false,
    makePod('web', { labels: { app: 'web' }, annotations: {} }),
    'enabled',
  ],
  [
    'a pod that opts out by label',
    false,
    makePod('web', { labels: { [SWITCH]: 'disabled' } }),
    'enabled',
  ],
  ['a pod that asks alone', false, makePod('web', { labels: { [SWITCH]: 'enabled' } })],
];

describe('L7 sight is announced', () => {
  for (const [name, isExpected, pod, value] of CASES) {
    it(`${name}: ${isExpected}`, () => {
      assert.equal(isAnnounced(pod, value === undefined ? {} : { [SWITCH]: value }), isExpected);
    });
  }
});
