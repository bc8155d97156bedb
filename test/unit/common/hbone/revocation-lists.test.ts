// The file of CRL_PATH: its forms, and what is no list.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { systemClock } from '../../../../common/clock.ts';
import { readRevocations } from '../../../../common/hbone/revocation-lists.ts';
import { fromPem } from '../../../../common/identity/asn1.ts';
import { createRoot } from '../../../../common/identity/ca.ts';
import { revocationList } from '../../../support/revocation-list.ts';

const dir = mkdtempSync(join(tmpdir(), 'revocations-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const list = revocationList(createRoot('one', systemClock), []);
const other = revocationList(createRoot('two', systemClock), []);
const [cut] = list.split('\n-----END');

describe('the file of revocation lists', () => {
  const rows: readonly [
    claim: string,
    content: string | Buffer | undefined,
    wanted: string | number,
  ][] = [
    ['missing: nobody is revoked', undefined, 0],
    ['empty: nobody is revoked', '\n', 0],
    ['one list', list, 1],
    ['several lists', `${list}\n${other}`, 2],
    ['one list as DER', fromPem(list, 'X509 CRL'), 1],
    ['a list that is cut short', `${cut ?? ''}\n`, 'unreadable'],
    ['a good list and one that is cut short', `${list}${cut ?? ''}\n`, 'unreadable'],
    ['a list beside a certificate', `${createRoot('four', systemClock).certPem}${list}`, 1],
    ['a good list and a bad one', `${list}${list.replace(/M../, 'AAA')}`, 'unreadable'],
    ['something else', 'revoke them all', 'unreadable'],
    ['a certificate', createRoot('three', systemClock).certPem, 'unreadable'],
  ];
  for (const [claim, content, wanted] of rows) {
    it(claim, () => {
      const path = join(dir, claim.replaceAll(' ', '-'));
      if (content !== undefined) writeFileSync(path, content);
      const found = readRevocations(path);
      const seen = found.kind === 'lists' ? found.pem.split('BEGIN').length - 1 : found.kind;
      assert.equal(seen, wanted);
    });
  }
});
