import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  carriesText,
  parseSegment,
  serverHelloVersion,
  serverVersions,
} from '../../../../local/check/frames.ts';

/** An Ethernet frame around a TCP payload. */
function frameOf(sourcePort: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(54);
  head.writeUInt16BE(0x0800, 12);
  head[14] = 0x45;
  head.writeUInt16BE(40 + payload.length, 16);
  head[23] = 6;
  head.writeUInt16BE(sourcePort, 34);
  head.writeUInt16BE(40_000, 36);
  head[46] = 5 << 4;
  return Buffer.concat([head, payload]);
}

/** A ServerHello with or without the supported_versions extension. */
function serverHello(version?: number): Buffer {
  const extension = Buffer.alloc(version === undefined ? 0 : 6);
  if (version !== undefined) {
    extension.writeUInt16BE(0x002b, 0);
    extension.writeUInt16BE(2, 2);
    extension.writeUInt16BE(version, 4);
  }
  const hello = Buffer.alloc(49);
  hello[0] = 0x16;
  hello[5] = 2;
  hello.writeUInt16BE(0x0303, 9);
  hello.writeUInt16BE(extension.length, 47);
  return Buffer.concat([hello, extension]);
}

describe('captured frames', () => {
  it('finds a text in any frame', () => {
    assert.ok(carriesText([frameOf(1, Buffer.from('GET /marker'))], 'marker'));
    assert.ok(!carriesText([frameOf(1, Buffer.from('GET /'))], 'marker'));
  });

  it('reads ports and payload without padding', () => {
    const frame = Buffer.concat([frameOf(15008, Buffer.from('x')), Buffer.alloc(6)]);
    const segment = parseSegment(frame);
    assert.equal(segment?.sourcePort, 15008);
    assert.equal(segment.payload.toString(), 'x');
  });

  it('reads IPv6 as well', () => {
    const head = Buffer.alloc(74);
    head.writeUInt16BE(0x86dd, 12);
    head.writeUInt16BE(21, 18);
    head[20] = 6;
    head.writeUInt16BE(15008, 54);
    head[66] = 5 << 4;
    const segment = parseSegment(Buffer.concat([head, Buffer.from('xpadding')]));
    assert.equal(segment?.sourcePort, 15008);
    assert.equal(segment.payload.toString(), 'x');
  });

  it('takes frames that are no TCP for nothing', () => {
    assert.equal(parseSegment(Buffer.alloc(20)), undefined);
    assert.equal(parseSegment(Buffer.alloc(60)), undefined);
  });

  it('tells TLS 1.3 from TLS 1.2', () => {
    assert.equal(serverHelloVersion(serverHello(0x0304)), 0x0304);
    assert.equal(serverHelloVersion(serverHello()), 0x0303);
    assert.equal(serverHelloVersion(Buffer.from('HTTP/1.1 200 OK')), undefined);
  });

  it('looks at the server of the port only', () => {
    const frames = [frameOf(15008, serverHello(0x0304)), frameOf(443, serverHello())];
    assert.deepEqual(serverVersions(frames, 15008), [0x0304]);
  });
});
