// The server side of SPDY/3.1, as much as Kubernetes' port-forward uses: streams opened by the client, data and
// half-close both ways, ping. Kubernetes' own implementation has no flow control, so there is none here beyond
// the transport's back-pressure.
import type { Duplex } from 'node:stream';
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib';
import { SPDY_DICTIONARY } from './spdy-dictionary.ts';

const SYN_STREAM = 1;
const SYN_REPLY = 2;
const RST_STREAM = 3;
const PING = 6;
const GOAWAY = 7;
const FLAG_FIN = 1;
const HEADER_BYTES = 8;
const MAX_FRAME_BYTES = 1 << 20;
const MAX_STREAMS = 1000;

/** A stream the client opened. */
export interface SpdyStream {
  readonly id: number;
  readonly headers: Readonly<Record<string, string>>;
  onData: (data: Buffer) => void;
  onEnd: () => void;
  /** Sends bytes; false asks to wait for the transport's `drain`. */
  write(data: Buffer): boolean;
  end(): void;
}

interface OpenStream extends SpdyStream {
  isLocalEnded: boolean;
  isRemoteEnded: boolean;
}

function controlFrame(type: number, flags: number, body: Buffer): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt16BE(0x8003, 0);
  head.writeUInt16BE(type, 2);
  head.writeUInt32BE(((flags << 24) | body.length) >>> 0, 4);
  return Buffer.concat([head, body]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** Decodes an inflated header block. */
export function decodeHeaders(block: Buffer): Record<string, string> {
  const headers: Record<string, string> = {};
  let offset = 4;
  const text = (): string => {
    const length = block.readUInt32BE(offset);
    const value = block.toString('utf8', offset + 4, offset + 4 + length);
    offset += 4 + length;
    return value;
  };
  for (let left = Math.min(block.readUInt32BE(0), 100); left > 0; left--) {
    const name = text().toLowerCase();
    headers[name] = text();
  }
  return headers;
}

function flushed(codec: Inflate | Deflate, input: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const onData = (chunk: Buffer): void => void chunks.push(chunk);
    codec.on('data', onData);
    codec.once('error', reject);
    codec.write(input);
    codec.flush(constants.Z_SYNC_FLUSH, () => {
      codec.off('data', onData);
      codec.off('error', reject);
      resolve(Buffer.concat(chunks));
    });
  });
}

export class SpdySession {
  readonly #transport: Duplex;
  readonly #onStream: (stream: SpdyStream) => void;
  readonly #inflate = createInflate({ dictionary: SPDY_DICTIONARY });
  readonly #deflate = createDeflate({ dictionary: SPDY_DICTIONARY });
  readonly #streams = new Map<number, OpenStream>();

  private constructor(transport: Duplex, onStream: (stream: SpdyStream) => void) {
    this.#transport = transport;
    this.#onStream = onStream;
    this.#inflate.on('error', () => transport.destroy());
    this.#run()
      .catch(() => undefined)
      .finally(() => this.#close());
  }

  /** Serves until the transport ends. */
  static serve(transport: Duplex, onStream: (stream: SpdyStream) => void): SpdySession {
    return new SpdySession(transport, onStream);
  }

  async #run(): Promise<void> {
    let pending: Buffer = Buffer.alloc(0);
    for await (const chunk of this.#transport as AsyncIterable<Buffer>) {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      for (;;) {
        if (pending.length < HEADER_BYTES) break;
        const length = pending.readUInt32BE(4) & 0xffffff;
        if (length > MAX_FRAME_BYTES) return;
        if (pending.length < HEADER_BYTES + length) break;
        const frame = pending.subarray(0, HEADER_BYTES + length);
        pending = pending.subarray(HEADER_BYTES + length);
        if (!(await this.#onFrame(frame))) return;
      }
    }
  }

  /** False ends the session. */
  async #onFrame(frame: Buffer): Promise<boolean> {
    const body = frame.subarray(HEADER_BYTES);
    const isFin = (frame.readUInt8(4) & FLAG_FIN) !== 0;
    const first = frame.readUInt32BE(0);
    if (first >>> 31 === 0) {
      const stream = this.#streams.get(first);
      if (stream === undefined) return true;
      if (body.length > 0) stream.onData(body);
      if (isFin) this.#remoteEnd(stream);
      return true;
    }
    switch (first & 0xffff) {
      case SYN_STREAM:
        await this.#open(body, isFin);
        return true;
      case RST_STREAM: {
        const stream = this.#streams.get(body.readUInt32BE(0) & 0x7fffffff);
        if (stream !== undefined) {
          stream.isLocalEnded = true;
          this.#remoteEnd(stream);
        }
        return true;
      }
      case PING:
        this.#transport.write(controlFrame(PING, 0, body));
        return true;
      case GOAWAY:
        return this.#streams.size > 0;
      default:
        return true;
    }
  }

  async #open(body: Buffer, isFin: boolean): Promise<void> {
    const id = body.readUInt32BE(0) & 0x7fffffff;
    const headers = decodeHeaders(await flushed(this.#inflate, body.subarray(10)));
    if (this.#streams.size >= MAX_STREAMS) {
      this.#transport.write(controlFrame(RST_STREAM, 0, Buffer.concat([uint32(id), uint32(3)])));
      return;
    }
    const stream: OpenStream = {
      id,
      headers,
      isLocalEnded: false,
      isRemoteEnded: false,
      onData: () => undefined,
      onEnd: () => undefined,
      write: (data) => this.#send(stream, data, 0),
      end: () => {
        if (stream.isLocalEnded) return;
        this.#send(stream, Buffer.alloc(0), FLAG_FIN);
        stream.isLocalEnded = true;
        this.#forget(stream);
      },
    };
    this.#streams.set(id, stream);
    const block = await flushed(this.#deflate, uint32(0));
    this.#transport.write(controlFrame(SYN_REPLY, 0, Buffer.concat([uint32(id), block])));
    this.#onStream(stream);
    if (isFin) this.#remoteEnd(stream);
  }

  #send(stream: OpenStream, data: Buffer, flags: number): boolean {
    if (stream.isLocalEnded || this.#transport.destroyed) return true;
    let isOpen = true;
    for (let at = 0; at === 0 || at < data.length; at += MAX_FRAME_BYTES) {
      const part = data.subarray(at, at + MAX_FRAME_BYTES);
      const head = Buffer.concat([uint32(stream.id), uint32((flags << 24) | part.length)]);
      isOpen = this.#transport.write(Buffer.concat([head, part]));
    }
    return isOpen;
  }

  #remoteEnd(stream: OpenStream): void {
    if (stream.isRemoteEnded) return;
    stream.isRemoteEnded = true;
    stream.onEnd();
    this.#forget(stream);
  }

  #forget(stream: OpenStream): void {
    if (stream.isLocalEnded && stream.isRemoteEnded) this.#streams.delete(stream.id);
  }

  #close(): void {
    for (const stream of this.#streams.values()) {
      stream.isLocalEnded = true;
      this.#remoteEnd(stream);
    }
    this.#streams.clear();
    this.#inflate.close();
    this.#deflate.close();
    this.#transport.destroy();
  }
}
