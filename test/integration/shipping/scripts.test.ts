// The scripts of package.json that take options: each lists them with --help, and answers a mistake with one line and
// exit code 2, before it does anything.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

interface Script {
  readonly command: string;
  /** Words that --help must have. */
  readonly says: RegExp;
  /** Command lines that are refused. */
  readonly mistakes: readonly (readonly string[])[];
}

const SCRIPTS: Readonly<Record<string, Script>> = {
  start: {
    command: 'local/main.ts',
    says: /--ui-port N .*default 15080/,
    mistakes: [['--ui-port', 'x'], ['--empty', '--check'], ['what']],
  },
  test: {
    command: 'test/run.ts',
    says: /--suite SUITE .*interop/,
    mistakes: [['--suite', 'what'], ['no-such-file'], ['--suite', 'unit', 'no-such-file']],
  },
  bench: {
    command: 'test/bench/main.ts',
    says: /new_connections[^]*--rounds N .*default 3/,
    mistakes: [
      ...[
        ['--rounds', '0'],
        ['--seconds', 'x'],
        ['--only', 'requests,what'],
      ],
      ...[['--path', 'what'], ['what']],
    ],
  },
  soak: {
    command: 'test/soak/main.ts',
    says: /mixed[^]*fairness[^]*--rate N .*default 2000[^]*checksum[^]*--gb N .*default 10/,
    mistakes: [
      ...[['what'], ['plot', 'what'], ['--minutes', '-1'], ['--minutes', 'x']],
      ...[
        ['fairness', '--setup', 'what'],
        ['checksum', '--path', 'what'],
      ],
    ],
  },
  build: {
    command: 'build/main.ts',
    says: /--out DIR .*default dist[^]*--images/,
    mistakes: [['what'], ['--out']],
  },
  docs: { command: 'test/docs.ts', says: /config\.md/, mistakes: [['what']] },
};

function run(command: string, args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { status, stdout, stderr };
}

describe('scripts of package.json', () => {
  for (const [name, { command, says, mistakes }] of Object.entries(SCRIPTS)) {
    it(`${name}: --help lists what it takes`, () => {
      const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as {
        scripts: Record<string, string>;
      };
      assert.equal(scripts[name], `node ${command}`);
      const { status, stdout, stderr } = run(command, ['--help']);
      assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
      assert.match(stdout, says);
    });

    for (const args of [['--what'], ...mistakes]) {
      it(`${name}: ${args.join(' ')} is refused in one line`, () => {
        const { status, stdout, stderr } = run(command, args);
        assert.deepEqual({ status, stdout }, { status: 2, stdout: '' });
        assert.match(stderr, /^npm [a-z ]+: [^\n]+\n$/);
      });
    }
  }
});
