import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { localKubeconfig, stateDirOf } from '../../../../common/kube/local-state.ts';

const OWN = process.getuid?.() ?? 0;
const OTHER = OWN + 1;

describe('state of the local cluster', () => {
  let clone: string;
  const kubeconfig = (state: string): string => {
    mkdirSync(join(clone, state), { recursive: true });
    const path = join(clone, state, 'kubeconfig');
    writeFileSync(path, '');
    return path;
  };
  beforeEach(() => (clone = mkdtempSync(join(tmpdir(), 'state-'))));
  afterEach(() => rmSync(clone, { recursive: true }));

  it('is .ambient for whoever comes first, and for its owner from then on', () => {
    assert.equal(stateDirOf(clone, OTHER), join(clone, '.ambient'));
    mkdirSync(join(clone, '.ambient'));
    assert.equal(stateDirOf(clone, OWN), join(clone, '.ambient'));
  });

  it('is a directory of its own for another user', () => {
    mkdirSync(join(clone, '.ambient'));
    assert.equal(stateDirOf(clone, OTHER), join(clone, `.ambient-${OTHER}`));
  });

  it('has no kubeconfig where no cluster runs', () => {
    assert.equal(localKubeconfig(clone, OWN), undefined);
  });

  it('prefers the kubeconfig of the own cluster to that of another user', () => {
    const theirs = kubeconfig('.ambient');
    assert.equal(localKubeconfig(clone, OTHER), theirs, 'theirs, as it may be read');
    const own = kubeconfig(`.ambient-${OTHER}`);
    assert.equal(localKubeconfig(clone, OTHER), own);
  });
});
