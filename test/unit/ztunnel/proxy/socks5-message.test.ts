// SOCKS5 messages, byte by byte, whole and in pieces.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readGreeting, readRequest } from '../../../../ztunnel/proxy/socks5-message.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const name = Buffer.from('example.com').toString('hex');

describe('socks5', () => {
  const greetings = [
    { name: 'no authentication', bytes: '05 01 00', wanted: { length: 3 } },
    { name: 'among others', bytes: '05 02 02 00', wanted: { length: 4 } },
    { name: 'only with a password', bytes: '05 01 02', wanted: { refusal: 7 } },
    { name: 'no method', bytes: '05 00', wanted: { refusal: 7 } },
    { name: 'version 4', bytes: '04 01', wanted: { refusal: 7 } },
    { name: 'nothing yet', bytes: '', wanted: undefined },
    { name: 'part of it', bytes: '05 02 00', wanted: undefined },
  ];
  for (const { name: title, bytes, wanted } of greetings) {
    it(`greeting: ${title}`, () => assert.deepEqual(readGreeting(hex(bytes)), wanted));
  }

  const requests = [
    {
      name: 'ipv4',
      bytes: '05 01 00 01 0a000002 0050',
      wanted: { host: '10.0.0.2', isName: false, port: 80, length: 10 },
    },
    {
      name: 'ipv6, with data behind it',
      bytes: '05 01 00 04 fd000000000000000000000000000002 0050 ffff',
      wanted: { host: 'fd00::2', isName: false, port: 80, length: 22 },
    },
    {
      name: 'mapped ipv4',
      bytes: '05 01 00 04 00000000000000000000ffff0a000002 0050',
      wanted: { host: '10.0.0.2', isName: false, port: 80, length: 22 },
    },
    {
      name: 'a name',
      bytes: `05 01 00 03 0b${name} 01bb`,
      wanted: { host: 'example.com', isName: true, port: 443, length: 18 },
    },
    { name: 'an empty name', bytes: '05 01 00 03 00 0050', wanted: { refusal: 1 } },
    { name: 'port 0', bytes: '05 01 00 01 0a000002 0000', wanted: { refusal: 1 } },
    { name: 'bind', bytes: '05 02', wanted: { refusal: 7 } },
    { name: 'another type', bytes: '05 01 00 02', wanted: { refusal: 7 } },
    { name: 'another version', bytes: '04', wanted: { refusal: 7 } },
  ];
  for (const { name: title, bytes, wanted } of requests) {
    it(`request: ${title}`, () => assert.deepEqual(readRequest(hex(bytes)), wanted));
  }

  it('every proper beginning of a good request asks for more', () => {
    for (const text of ['050100010a0000020050', `050100030b${name}01bb`]) {
      const whole = hex(text);
      for (let at = 0; at < whole.length; at++) {
        assert.equal(readRequest(whole.subarray(0, at)), undefined, `after ${at} bytes`);
      }
    }
  });
});
