// Which pods' connections the node proxies are told to observe, how many of them, and what a wrong label costs.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { CompileOutput, Pod, Verdict } from '../../../../common/compile/types.ts';
import { readL7Percent } from '../../../../common/workload/extensions.ts';
import { MESH, makePod } from '../../../support/kube-objects.ts';

const SWITCH = 'ambient-mesh.io/l7-sight';
const PERCENT = 'ambient-mesh.io/l7-sight-percent';
type Labels = Readonly<Record<string, string>>;

function compileWith(labels: Labels, pod: Pod, last?: CompileOutput): CompileOutput {
  const namespaces = [{ metadata: { name: 'app', labels } }];
  return compile({ mesh: MESH, namespaces, pods: [pod] }, last);
}

function announced({ addresses }: CompileOutput): number {
  const [address] = addresses.values();
  assert.equal(address?.type.case, 'workload');
  return readL7Percent(address.type.value.extensions);
}

const web = makePod('web', {});
const CASES: readonly (readonly [string, number, Pod, Labels])[] = [
  ['a namespace that asks for it', 100, web, { [SWITCH]: 'enabled' }],
  ['a namespace that asks for a share', 5, web, { [SWITCH]: 'enabled', [PERCENT]: '5' }],
  ['a part of a percent', 0.25, web, { [SWITCH]: 'enabled', [PERCENT]: '0.25' }],
  ['nothing of it', 0, web, { [SWITCH]: 'enabled', [PERCENT]: '0' }],
  ['all of it', 100, web, { [SWITCH]: 'enabled', [PERCENT]: '100' }],
  ['a namespace that does not ask', 0, web, {}],
  ['a share without the switch', 0, web, { [PERCENT]: '5' }],
  ['a namespace that says no', 0, web, { [SWITCH]: 'disabled' }],
  [
    'a pod outside the mesh',
    0,
    makePod('web', { labels: { app: 'web' }, annotations: {} }),
    { [SWITCH]: 'enabled' },
  ],
  [
    'a pod that opts out by label',
    0,
    makePod('web', { labels: { [SWITCH]: 'disabled' } }),
    { [SWITCH]: 'enabled' },
  ],
  ['a pod that asks alone', 0, makePod('web', { labels: { [SWITCH]: 'enabled' } }), {}],
];

describe('L7 sight is announced', () => {
  for (const [name, percent, pod, labels] of CASES) {
    it(`${name}: ${percent} percent`, () => {
      const output = compileWith(labels, pod);
      assert.equal(announced(output), percent);
      assert.deepEqual(output.verdicts, []);
    });
  }
});

describe('a wrong label of L7 sight', () => {
  const WRONG: readonly (readonly [label: string, Labels])[] = [
    [SWITCH, { [SWITCH]: 'yes' }],
    [SWITCH, { [SWITCH]: '' }],
    [PERCENT, { [SWITCH]: 'enabled', [PERCENT]: 'few' }],
    [PERCENT, { [SWITCH]: 'enabled', [PERCENT]: '101' }],
    [PERCENT, { [SWITCH]: 'enabled', [PERCENT]: '-1' }],
    [PERCENT, { [SWITCH]: 'enabled', [PERCENT]: '1e1' }],
    [PERCENT, { [SWITCH]: 'enabled', [PERCENT]: '' }],
  ];
  for (const [label, labels] of WRONG) {
    it(`${JSON.stringify(labels)} names object and field, and what was valid stays`, () => {
      const before = compileWith({ [SWITCH]: 'enabled', [PERCENT]: '20' }, web);
      const kept = compileWith(labels, web, before);
      assert.equal(announced(kept), 20);
      // As long as it is wrong, whatever else changes meanwhile.
      assert.equal(announced(compileWith(labels, web, kept)), 20);
      const [verdict, ...more] = kept.verdicts as [Verdict];
      const { kind, name, field, enforcedAt, reason, message } = verdict;
      assert.deepEqual(
        [kind, name, field, enforcedAt, reason, more.length],
        ['Namespace', 'app', `metadata.labels[${label}]`, 'nowhere', 'Invalid', 0],
      );
      assert.ok(message.includes(`Namespace app: label ${label} is "${labels[label] ?? ''}", not`));
    });

    it(`${JSON.stringify(labels)} asks for nothing where nothing was valid before`, () => {
      assert.equal(announced(compileWith(labels, web)), 0);
    });
  }
});
