// The list for people and the list in code are the same.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { REASON_FLAGS } from '../../../../ztunnel/proxy/reasons.ts';

it('docs/errors.md lists every reason of the node proxy with its flag', () => {
  const section = readFileSync('docs/errors.md', 'utf8')
    .split('## Node proxy')[1]
    ?.split('\n## ')[0];
  const rows = [...(section ?? '').matchAll(/^\| `([a-z0-9_]+)` \| (\S+) \|/gm)];
  assert.deepEqual(
    Object.fromEntries(rows.map(([, reason, flag]) => [reason, flag])),
    REASON_FLAGS,
  );
});
