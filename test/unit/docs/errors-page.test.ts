// docs/errors.md has every reason that the code can give, and no other. The node proxy's are checked beside its code.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { VERDICT_REASONS } from '../../../common/compile/types.ts';
import { REFUSAL_REASONS } from '../../../controlplane/ca/impersonation.ts';
import { FAILURES } from '../../../waypoint/http/respond.ts';
import { REFUSALS } from '../../../waypoint/listener/tunnel-handler.ts';

const PAGE = readFileSync('docs/errors.md', 'utf8');

/** The cells of the table rows under a heading. */
function rowsOf(heading: string): string[][] {
  const section = PAGE.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim().replaceAll('`', '')))
    .map((cells) => cells.slice(1, -1));
}

const firsts = (heading: string): string[] => rowsOf(heading).map(([first = '']) => first);

/** Codes of errors made in the files. */
function codesIn(pattern: string): Set<string> {
  return new Set(
    globSync(pattern).flatMap((file) =>
      [...readFileSync(file, 'utf8').matchAll(/new MeshError\(\s*'([a-z_]+)'/g)].map(
        ([, code = '']) => code,
      ),
    ),
  );
}

describe('docs/errors.md', () => {
  it('has every failure of a request at a waypoint, with its statuses and flag', () => {
    assert.deepEqual(
      rowsOf('Waypoint: requests').map((cells) => cells.slice(0, 4)),
      Object.entries(FAILURES).map(([code, { status, grpc, flag }]) => [
        ...[code, String(status), String(grpc)],
        flag === '' ? '-' : flag,
      ]),
    );
  });

  it('has every refusal of a tunnel, with its status', () => {
    assert.deepEqual(
      rowsOf('Waypoint: tunnels').map((cells) => cells.slice(0, 2)),
      Object.entries(REFUSALS).map(([code, status]) => [code, String(status)]),
    );
  });

  it('has every reason of a verdict', () => {
    assert.deepEqual(firsts('Resources').sort(), [...VERDICT_REASONS].sort());
  });

  it('has every reason the control plane refuses a certificate for', () => {
    assert.deepEqual(firsts('Control plane').slice(0, REFUSAL_REASONS.length), [
      ...REFUSAL_REASONS,
    ]);
  });

  it('has every code of control plane, node agent and command line', () => {
    const kube = [
      'kube_config',
      'kube_api',
      'invalid_config',
      'unreachable',
      'exec',
      'bad_manifest',
    ];
    for (const [heading, pattern] of [
      ['Control plane', 'controlplane/**/*.ts'],
      ['Node agent', 'cni/**/*.ts'],
      ['Command line', 'cli/**/*.ts'],
    ] as const) {
      const listed = new Set(firsts(heading).filter((word) => /^[a-z_]+$/.test(word)));
      const made = codesIn(pattern);
      assert.ok(made.size > 0);
      assert.deepEqual(
        [...made].filter((code) => !listed.has(code)),
        [],
        `${heading}: not listed`,
      );
      const unknown = [...listed].filter((code) => !made.has(code) && !kube.includes(code));
      assert.deepEqual(unknown, [], `${heading}: not in the code`);
    }
  });

  it('says of every reason what it means', () => {
    for (const line of PAGE.split('\n').filter((each) => each.startsWith('| `')))
      assert.ok(
        line
          .split('|')
          .slice(2, -1)
          .some((cell) => cell.trim().length > 8),
        line,
      );
  });
});
