// Addresses of a control plane, and what goes with each call to it (XDS_ADDRESS, AUTH_TOKEN).
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { callMetadata, openChannel, parseAddress } from '../../../../common/grpc/channel.ts';

const dir = mkdtempSync(join(tmpdir(), 'channel-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const TARGET = { address: 'a:1', root: '', clusterId: 'east' };

describe('address of a control plane', () => {
  for (const [address, protocol, host] of [
    ['istiod:15012', 'https:', 'istiod:15012'],
    ['10.0.0.1:15012', 'https:', '10.0.0.1:15012'],
    ['[fd00::1]:15012', 'https:', '[fd00::1]:15012'],
    ['https://istiod:15012', 'https:', 'istiod:15012'],
    ['http://localhost:15010', 'http:', 'localhost:15010'],
  ] as const) {
    it(`${address} is ${protocol}//${host}`, () => {
      const url = parseAddress(address);
      assert.deepEqual([url.protocol, url.host], [protocol, host]);
    });
  }

  for (const address of ['https://:1', 'a b:1', 'a:65536', 'http://']) {
    it(`"${address}" is none`, () =>
      assert.throws(() => parseAddress(address), { code: 'invalid_address' }));
  }
});

describe('token', () => {
  const tokenOf = (token?: string): unknown[] =>
    callMetadata({ ...TARGET, ...(token === undefined ? {} : { token }) }).get('authorization');

  it('is the text itself where there is no such file', () => {
    assert.deepEqual(tokenOf('literal'), ['Bearer literal']);
  });

  it('is what the file has now', () => {
    const file = join(dir, 'token');
    for (const text of ['one', 'two']) {
      writeFileSync(file, `${text}\n`);
      assert.deepEqual(tokenOf(file), [`Bearer ${text}`]);
    }
  });

  it('is missed where a path leads nowhere or to nothing', () => {
    const empty = join(dir, 'empty');
    writeFileSync(empty, '');
    for (const path of [join(dir, 'absent'), empty]) {
      assert.throws(() => tokenOf(path), { code: 'token_unreadable' });
    }
  });

  it('is not sent where there is none', () => assert.deepEqual(tokenOf(), []));
});

describe('root of a control plane', () => {
  it('that cannot be read is an error at once', () => {
    const root = join(dir, 'absent.pem');
    assert.throws(() => openChannel({ ...TARGET, root }), { code: 'root_unreadable' });
  });
});
