// Which workloads a node proxy takes for its own.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { localTo } from '../../../../ztunnel/state/local-to.ts';
import { makeWorkload } from '../../../support/mesh-builders.ts';

const here = makeWorkload('here', '10.0.0.1', { node: 'a' });
const there = makeWorkload('there', '10.0.0.2', { node: 'b' });
const nowhere = makeWorkload('nowhere', '10.0.0.3', { node: '' });
const all = [here, there, nowhere];
const { name, namespace, serviceAccount } = there;

describe('local workloads', () => {
  const rows: readonly [claim: string, config: Parameters<typeof localTo>[0], names: string[]][] = [
    ['are those of the node', { nodeName: 'a', dedicatedPod: undefined }, ['here']],
    [
      'are all where the node has no name',
      { nodeName: '', dedicatedPod: undefined },
      all.map((each) => each.name),
    ],
    [
      'are the only pod in dedicated mode, whatever the node',
      { nodeName: 'a', dedicatedPod: { name, namespace, serviceAccount } },
      ['there'],
    ],
    [
      'in dedicated mode have its account too',
      { nodeName: '', dedicatedPod: { name, namespace, serviceAccount: 'other' } },
      [],
    ],
  ];
  for (const [claim, config, names] of rows) {
    it(claim, () => {
      assert.deepEqual(
        all.filter(localTo(config)).map((each) => each.name),
        names,
      );
    });
  }
});
