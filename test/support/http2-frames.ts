// HTTP/2 frames written and read by hand (RFC 9113 section 4.1), for peers that do what no library would.
import type { Socket } from 'node:net';

export const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION] = [
  0, 1, 3, 4, 6, 7, 8, 9,
] as const;
const HEADER_BYTES = 9;
export const END_STREAM = 1;
export const END_HEADERS = 4;
export const PADDED = 8;
export const PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** One frame as it was read. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** A frame's bytes. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array = new Uint8Array(),
): Buffer<ArrayBuffer> {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** A whole number of 32 bits. */
export function uint32(value: number): Buffer<ArrayBuffer> {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** WINDOW_UPDATE. */
export function windowUpdate(stream: number, increment: number): Buffer<ArrayBuffer> {
  return frame(WINDOW_UPDATE, 0, stream, uint32(increment));
}

/** SETTINGS with one entry. */
export function setting(id: number, value: number): Buffer<ArrayBuffer> {
  return frame(SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, id]), uint32(value)]));
}

/** DATA with padding (section 6.1). */
export function paddedData(
  stream: number,
  payload: Uint8Array,
  padding: number,
): Buffer<ArrayBuffer> {
  const body = Buffer.concat([Buffer.from([padding]), payload, Buffer.alloc(padding)]);
  return frame(DATA, PADDED, stream, body);
}

/** HPACK literals without indexing (name 2 is :method, 1 is :authority), with `more` in between. */
export function connectBlock(authority: string, more: readonly number[] = []): Buffer<ArrayBuffer> {
  return Buffer.concat([
    ...[Buffer.from([2, 7]), Buffer.from('CONNECT')],
    ...[Buffer.from([...more, 1, authority.length]), Buffer.from(authority)],
  ]);
}

/** Gives each frame that comes on a socket to `onFrame`. */
export function readFrames(socket: Socket, onFrame: (frame: Frame) => void): void {
  let received = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    while (received.length >= HEADER_BYTES) {
      const length = HEADER_BYTES + received.readUIntBE(0, 3);
      if (received.length < length) return;
      const [type, flags] = [received.readUInt8(3), received.readUInt8(4)];
      const stream = received.readUInt32BE(5) & 0x7fff_ffff;
      const payload = received.subarray(HEADER_BYTES, length);
      received = received.subarray(length);
      onFrame({ type, flags, stream, payload });
    }
  });
}
