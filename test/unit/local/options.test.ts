import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isLeftover } from '../../../local/leftovers.ts';
import { makeStateDir, parseOptions, REPOSITORY } from '../../../local/options.ts';
import { parseDistribution, planInstall } from '../../../local/preflight.ts';

describe('options of the start', () => {
  it('asks for help with undefined', () => {
    assert.equal(parseOptions(['--help'], 0), undefined);
  });

  it('refuses a check of an empty cluster', () => {
    assert.throws(() => parseOptions(['--check', '--empty'], 0), /--check needs the sample/);
  });

  it('names the flag with a bad port', () => {
    assert.throws(() => parseOptions(['--ui-port', '70000'], 0), /--ui-port must be a port/);
  });

  it('keeps the logs of the run before beside the new ones', () => {
    const dir = mkdtempSync(join(tmpdir(), 'options-'));
    try {
      makeStateDir(dir);
      writeFileSync(join(dir, 'logs/kubelet.log'), 'old');
      makeStateDir(dir);
      assert.deepEqual(readdirSync(join(dir, 'logs')), []);
      assert.deepEqual(readdirSync(join(dir, 'logs.previous')), ['kubelet.log']);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('makes the state, which has pods’ tokens, its owner’s alone, also where it was not', () => {
    const dir = mkdtempSync(join(tmpdir(), 'options-'));
    try {
      chmodSync(dir, 0o755);
      makeStateDir(dir);
      assert.equal(statSync(dir).mode & 0o777, 0o700);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('says where state cannot be kept and what to do', () => {
    assert.throws(
      () => makeStateDir('/dev/null/state'),
      /cannot keep state in \/dev\/null\/state .*--state/,
    );
  });
});

describe('leftovers of a killed run', () => {
  const script = join(REPOSITORY, 'local/kubelet/main.ts');
  const table: readonly (readonly [string, readonly string[], boolean])[] = [
    ['a kubelet of this state', ['node', script, '--state', '/s'], true],
    [
      'an API server below this state',
      ['node', join(REPOSITORY, 'local/apiserver/main.ts'), '--data', '/s/apiserver'],
      true,
    ],
    ['a kubelet of another state', ['node', script, '--state', '/s2'], false],
    [
      'a kubelet of another clone',
      ['node', '/other/local/kubelet/main.ts', '--state', '/s'],
      false,
    ],
    ['an editor of the script', ['vi', script], false],
  ];
  for (const [name, argv, expected] of table) {
    it(`${expected ? 'ends' : 'spares'} ${name}`, () => {
      assert.equal(isLeftover(argv, '/s'), expected);
    });
  }
});

describe('system packages', () => {
  it('installs by the distribution that this one is like', () => {
    const distribution = parseDistribution('NAME="Pop!_OS"\nID=pop\nID_LIKE="ubuntu debian"\n');
    assert.ok(distribution);
    assert.deepEqual(planInstall(distribution, ['iproute2', 'nftables']).at(-1)?.slice(-2), [
      'iproute2',
      'nftables',
    ]);
  });

  it('uses the distribution’s own names, each once', () => {
    const distribution = parseDistribution('ID=fedora\n');
    assert.ok(distribution);
    const plan = planInstall(distribution, ['iproute2', 'mount', 'util-linux']);
    assert.deepEqual(plan, [['dnf', 'install', '-y', '-q', 'iproute', 'util-linux']]);
  });

  it('knows nothing of an unknown distribution', () => {
    assert.equal(parseDistribution('ID=plan9\n'), undefined);
  });
});
