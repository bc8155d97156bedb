// Which pods are announced for the same-node path.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { CompileInput } from '../../../../common/compile/types.ts';
import { NODE_LOCAL_EXTENSION } from '../../../../common/workload/extensions.ts';
import { MESH, makePod } from '../../../support/kube-objects.ts';

function isAnnounced(pod: ReturnType<typeof makePod>, input: Partial<CompileInput> = {}): boolean {
  const { addresses } = compile({ mesh: MESH, ...input, pods: [pod] });
  const [address] = addresses.values();
  assert.equal(address?.type.case, 'workload');
  return address.type.value.extensions.some(({ name }) => name === NODE_LOCAL_EXTENSION);
}

const labels = { app: 'web' };
const policy = (namespace: string, podSelector: object) => ({
  metadata: { name: 'p', namespace },
  spec: { podSelector },
});

const CASES: readonly (readonly [
  string,
  boolean,
  ReturnType<typeof makePod>,
  Partial<CompileInput>?,
])[] = [
  ['a captured pod', true, makePod('web', { labels })],
  ['a pod outside the mesh', false, makePod('web', { labels, annotations: {} })],
  [
    'a pod that a network policy selects',
    false,
    makePod('web', { labels }),
    { networkPolicies: [policy('app', { matchLabels: labels })] },
  ],
  [
    'a network policy for every pod of the namespace',
    false,
    makePod('web', { labels }),
    { networkPolicies: [policy('app', {})] },
  ],
  [
    'a network policy by expression',
    false,
    makePod('web', { labels }),
    {
      networkPolicies: [policy('app', { matchExpressions: [{ key: 'app', operator: 'Exists' }] })],
    },
  ],
  [
    'a network policy for others',
    true,
    makePod('web', { labels }),
    { networkPolicies: [policy('app', { matchLabels: { app: 'db' } })] },
  ],
  [
    'a network policy of another namespace',
    true,
    makePod('web', { labels }),
    { networkPolicies: [policy('other', {})] },
  ],
  [
    'a pod that opts out',
    false,
    makePod('web', { labels: { ...labels, 'ambient-mesh.io/node-local': 'disabled' } }),
  ],
  [
    'a namespace that opts out',
    false,
    makePod('web', { labels }),
    {
      namespaces: [
        { metadata: { name: 'app', labels: { 'ambient-mesh.io/node-local': 'disabled' } } },
      ],
    },
  ],
];

describe('the same-node path is announced', () => {
  for (const [name, isExpected, pod, input] of CASES) {
    it(`${name}: ${isExpected}`, () => assert.equal(isAnnounced(pod, input), isExpected));
  }
});
