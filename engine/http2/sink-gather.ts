// DATA on its way to sockets: pointers into the decrypted batch, gathered into one writev(2) for each stream and
// batch. Must be flushed before the batch's memory is given back and before any handler runs.
import { reserve, scratch, setUint64 } from '../native/memory.ts';
import type { JoinTap } from '../reactor/relay.ts';
import type { OwnedStream } from './http2-stream.ts';

const MAX_PIECES = 64;
// One gather list a thread: it is always flushed before anything that could nest.
const iovOffset = reserve(MAX_PIECES * 16);

/** Collects pieces for one stream at a time. */
export class SinkGather {
  #stream: OwnedStream | undefined;
  #count = 0;
  #total = 0;

  add(stream: OwnedStream, address: number, length: number): void {
    if (this.#stream !== stream || this.#count === MAX_PIECES) {
      this.flush();
      // The flush may have filled this stream's sink.
      if (!stream.canSink()) {
        stream.receive(address, length);
        return;
      }
      this.#stream = stream;
    }
    setIov(iovOffset + this.#count * 16, address, length);
    this.#count++;
    this.#total += length;
  }

  /** Writes what is gathered; with `ending` the bytes of that stream as its last ones. */
  flush(ending?: OwnedStream): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    const total = this.#total;
    const count = this.#count;
    this.clear();
    const { sink } = stream;
    if (sink === undefined) return;
    const { address } = scratch;
    const isLast = stream === ending;
    stream.noteSunk(total, sink.writeGathered(address + iovOffset, count, total, isLast));
    if (stream.tap !== undefined) showPieces(stream.tap, count);
  }

  clear(): void {
    this.#stream = undefined;
    this.#count = this.#total = 0;
  }
}

/** What was gathered last, piece by piece, as long as somebody looks. */
function showPieces(tap: JoinTap, count: number): void {
  for (let at = iovOffset; at < iovOffset + count * 16; at += 16) {
    const address = Number(scratch.view.getBigUint64(at, true));
    tap.received(address, Number(scratch.view.getBigUint64(at + 8, true)));
  }
}

/** Writes one struct iovec into scratch. */
export function setIov(offset: number, address: number, length: number): void {
  setUint64(scratch.view, offset, address);
  setUint64(scratch.view, offset + 8, length);
}
