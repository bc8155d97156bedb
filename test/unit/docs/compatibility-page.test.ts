// docs/compatibility.md names a test for what it claims: each of them is there, by file and title (or row of a table).
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

const ROW = /^\| (?<behaviour>.+?) \| (?<shown>.+?) \|$/;
const NAMED = /^`(?<file>[\w./-]+\.test\.ts)`: (?<title>.+)$/;
const RUNTIME = /\b(Rust|Tokio|jemalloc)\b/;

/** Tests and rows of tables are string literals. */
function hasTitle(source: string, title: string): boolean {
  return ["'", '"', '`'].some((quote) => source.includes(`${quote}${title}${quote}`));
}

/** What is wrong with a row, if anything is. */
function problemOf(shown: string): string | undefined {
  if (shown.startsWith('missing: ')) return undefined;
  if (shown.startsWith('not applicable: '))
    return RUNTIME.test(shown) ? undefined : 'is applicable';
  const { file, title = '' } = NAMED.exec(shown)?.groups ?? {};
  if (file === undefined) return 'names no test';
  if (!existsSync(`test/${file}`)) return `names test/${file}, which is not there`;
  return hasTitle(readFileSync(`test/${file}`, 'utf8'), title)
    ? undefined
    : `names "${title}", which is not in test/${file}`;
}

const rows = readFileSync('docs/compatibility.md', 'utf8')
  .split('\n')
  .map((line) => ROW.exec(line)?.groups)
  .filter((row) => row !== undefined)
  .filter(({ behaviour = '' }) => !['Behaviour', '---'].includes(behaviour));

describe('docs/compatibility.md', () => {
  it('has rows', () => assert.ok(rows.length > 250, `${rows.length} rows`));

  it('names tests that exist', () => {
    const problems = rows.flatMap(({ behaviour = '', shown = '' }) => {
      const problem = problemOf(shown);
      return problem === undefined ? [] : [`${behaviour}: ${problem}`];
    });
    assert.deepEqual(problems, []);
  });
});
