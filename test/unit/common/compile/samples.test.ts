// The samples this repository ships: every policy and route in them is executed by somebody.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import { clusterOf, readManifests } from '../../../support/yaml-cluster.ts';

describe('the samples', () => {
  const output = compile(clusterOf(readManifests('manifests/samples')));

  it('have nothing that is executed nowhere', () => {
    assert.deepEqual(
      output.verdicts.filter(({ enforcedAt }) => enforcedAt === 'nowhere'),
      [],
    );
    assert.ok(output.verdicts.length >= 4);
  });

  it('bind every service of the namespace to its waypoint but the one that opts out', () => {
    const names = output.bindings.filter(({ bound }) => bound).map(({ name }) => name);
    assert.ok(names.includes('reviews'));
    assert.ok(!names.includes('ratings'));
  });
});
