// Which mappings are given back, and that a process is smaller and works on afterwards.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { findCleanMappings } from '../../../../engine/reactor/program-pages.ts';

const mapping = (head: string, anonymousKb: number): string =>
  `${head}\nSize:    8 kB\nRss:     8 kB\nAnonymous:    ${anonymousKb} kB\nVmFlags: rd ex\n`;

describe('program pages', () => {
  const rows: readonly [claim: string, head: string, anonymousKb: number, isTaken: boolean][] = [
    ['code of a file', '1000-3000 r-xp 00001000 fe:00 12 /usr/bin/node', 0, true],
    ['constants of a file', '1000-3000 r--p 00001000 fe:00 12 /usr/bin/node', 0, true],
    ['a path with a space', '1000-3000 r--p 00001000 fe:00 12 /opt/my app', 0, true],
    ['relocated constants', '1000-3000 r--p 00001000 fe:00 12 /usr/bin/node', 8, false],
    ['data of a file', '1000-3000 rw-p 00001000 fe:00 12 /usr/bin/node', 0, false],
    ['memory shared by a file', '1000-3000 r--s 00001000 fe:00 12 /dev/shm/x', 0, false],
    ['memory of no file', '1000-3000 r-xp 00000000 00:00 0 ', 0, false],
    ['the heap', '1000-3000 rw-p 00000000 00:00 0                    [heap]', 0, false],
    ['the vdso', '1000-3000 r-xp 00000000 00:00 0                    [vdso]', 0, false],
  ];
  for (const [claim, head, anonymousKb, isTaken] of rows) {
    it(`${isTaken ? 'takes' : 'leaves'} ${claim}`, () => {
      const heap = mapping('9000-a000 rw-p 00000000 00:00 0 [heap]', 0);
      const found = findCleanMappings(mapping(head, anonymousKb) + heap);
      assert.deepEqual(found, isTaken ? [{ start: 0x1000, length: 0x2000 }] : []);
    });
  }

  it('a process has less resident and works on', () => {
    const program = `
      import { readFileSync } from 'node:fs';
      import { createHash, generateKeyPairSync } from 'node:crypto';
      import { releaseProgramPages } from './engine/reactor/program-pages.ts';
      const files = () => Number(/RssFile:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
      const work = () => createHash('sha256').update(JSON.stringify([1, { a: 2 }])).digest('hex');
      const before = work();
      const mapped = files();
      releaseProgramPages();
      const left = files();
      generateKeyPairSync('ec', { namedCurve: 'P-256' });
      console.log(JSON.stringify({ mapped, left, isSame: work() === before }));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    });
    const { mapped, left, isSame } = JSON.parse(stdout || `"${stderr}"`) as {
      mapped: number;
      left: number;
      isSame: boolean;
    };
    assert.ok(left < mapped / 2, `${left} kB of ${mapped} kB are left`);
    assert.ok(isSame);
  });
});
