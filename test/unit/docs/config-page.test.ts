// The page for people and the tables in code are the same.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { renderConfigPage } from '../../support/config-page.ts';

it('docs/config.md is what `npm run docs` writes', () => {
  assert.equal(readFileSync('docs/config.md', 'utf8'), renderConfigPage());
});
