// The request's body on its way upstream: waits while there is no upstream, flows with back-pressure when there is
// one, and is kept for another try while it is small (64 KiB) and a retry is possible.
import type { HttpStream } from '../../engine/http1/types.ts';
import type { HeaderList } from '../../engine/http2/types.ts';
import { copyBytes } from '../../engine/reactor/bytes.ts';

/** Largest body that is kept for a retry; also how much waits before the downstream is paused. */
export const MAX_BUFFERED_BYTES = 64 * 1024;

/** Owned by one exchange. */
export class RequestBody {
  readonly #downstream: HttpStream;
  #parts: Buffer[] = [];
  #buffered = 0;
  #bytes = 0;
  #sink: HttpStream | undefined;
  /** What was sent is still held. */
  #isComplete = true;
  #keepsForRetry = false;
  #hasEnded = false;
  #trailers: HeaderList | undefined;
  #isPaused = false;
  #isDropped = false;

  constructor(downstream: HttpStream) {
    this.#downstream = downstream;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** The body has ended and there was nothing in it. */
  get isEmpty(): boolean {
    return this.#hasEnded && this.#bytes === 0 && this.#trailers === undefined;
  }

  /** Everything received so far can be sent (again). */
  get isReplayable(): boolean {
    return this.#isComplete;
  }

  /** The whole body, when it has ended and is still held. */
  get whole(): Buffer | undefined {
    return this.#hasEnded && this.#isComplete ? Buffer.concat(this.#parts) : undefined;
  }

  /** Keeps what is sent while it is small. Call before the first {@link attach}. */
  keepForRetry(): void {
    this.#keepsForRetry = true;
  }

  onData(address: number, length: number): void {
    this.#bytes += length;
    if (this.#isDropped) return;
    const sink = this.#sink;
    const fits = this.#buffered + length <= MAX_BUFFERED_BYTES;
    if (sink === undefined || (this.#keepsForRetry && this.#isComplete && fits)) {
      this.#parts.push(copyBytes(address, length));
      this.#buffered += length;
    } else this.#forget();
    if (sink === undefined) {
      if (this.#buffered >= MAX_BUFFERED_BYTES) this.#pause();
      return;
    }
    if (!sink.write(address, length)) this.#pause();
  }

  onTrailers(trailers: HeaderList): void {
    this.#trailers = trailers;
  }

  onEnd(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (this.#sink !== undefined) this.#end(this.#sink);
  }

  /** Sends what is held, then what comes. */
  attach(sink: HttpStream): void {
    this.#sink = sink;
    let isWritable = true;
    for (const part of this.#parts) isWritable = sink.writeBytes(part);
    if (!this.#keepsForRetry && this.#bytes > 0) this.#forget();
    if (this.#hasEnded) this.#end(sink);
    else if (isWritable) this.resume();
  }

  /** The try is over; data waits for the next one. */
  detach(): void {
    this.#sink = undefined;
  }

  /** The upstream can take more. */
  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#downstream.resume();
  }

  /** Nobody wants the rest: it is read and dropped, so that the connection can go on. */
  drop(): void {
    this.#isDropped = true;
    this.#sink = undefined;
    this.#forget();
    this.resume();
  }

  #pause(): void {
    if (this.#isPaused || this.#hasEnded) return;
    this.#isPaused = true;
    this.#downstream.pause();
  }

  #forget(): void {
    this.#isComplete = false;
    this.#parts = [];
    this.#buffered = 0;
  }

  #end(sink: HttpStream): void {
    if (this.#trailers === undefined) sink.end();
    else sink.endWithTrailers(this.#trailers);
  }
}
