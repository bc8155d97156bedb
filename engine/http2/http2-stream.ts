// One HTTP/2 stream. Sending: bytes wait in a queue until the session frames them at the end of the turn, or are
// read from a socket straight into the frames (`attachSource`). Receiving: bytes go to the handler or, in
// batches, to a socket (`attachSink`); only what was taken is given back to the peer's window.
import { ByteQueue } from '../native/memory.ts';
import { IGNORE_STREAM, type CloseReason, type DuplexHandler } from '../reactor/duplex.ts';
import type { Reactor } from '../reactor/reactor.ts';
import type { JoinTap, SocketJoiner } from '../reactor/relay.ts';
import type { TcpStream } from '../reactor/tcp-stream.ts';
import { CANCEL } from './error-codes.ts';
import type { HeaderList, Http2Session, Http2Stream, Http2StreamEvents } from './types.ts';

const HIGH_WATER_BYTES = 64 * 1024;
const LOW_WATER_BYTES = 16 * 1024;

/** What a stream asks of its session. */
export interface StreamOwner extends Http2Session {
  readonly reactor: Reactor;
  /** The stream has something to send. */
  markReady(stream: OwnedStream): void;
  /** The stream's socket has something to read. */
  markReadable(stream: OwnedStream): void;
  consume(stream: OwnedStream, bytes: number): void;
  sendResponse(stream: OwnedStream, headers: HeaderList, endStream: boolean): void;
  sendReset(stream: OwnedStream, errorCode: number): void;
}

/** A stream and the state its session works on. */
export class OwnedStream implements Http2Stream, SocketJoiner {
  handler: DuplexHandler = IGNORE_STREAM;
  events: Http2StreamEvents | undefined;
  id: number;
  readonly session: StreamOwner;
  /** Bytes of ours that wait for a frame. */
  readonly out = new ByteQueue();
  /** The session is about to frame bytes of `source`; see FrameWriter. */
  isFraming = false;
  source: TcpStream | undefined;
  countSource: (bytes: number) => void = () => undefined;
  /** Pieces to ask of the source next time; grows when it fills them. */
  sourceSegments = 1;
  sink: TcpStream | undefined;
  countSink: (bytes: number) => void = () => undefined;
  tap: JoinTap | undefined;
  trailers: HeaderList | undefined;
  isEnding = false;
  /** END_STREAM went out, or is in the frame being built. */
  isEndSent = false;
  isReady = false;
  /** Client: a request by CONNECT. */
  isConnect = false;
  /** DATA in both directions is a tunnel's (RFC 9113 section 8.5), and is read without nghttp2; see FrameReader. */
  isTunnel = false;
  /** nghttp2 has sent HEADERS: DATA may follow. */
  isOpen = false;
  /** Bytes the peer takes. */
  sendWindow = 0;
  /** Bytes taken, not yet given back to the peer. */
  taken = 0;
  /** Bytes of a tunnel that came and were not given back. */
  unopened = 0;
  isUpdateDue = false;
  isReadableMarked = false;
  isWindowBlocked = false;
  /** END_STREAM came. */
  isEndReceived = false;
  hasFinalHeaders = false;
  headers: [string, string][] = [];
  headerBytes = 0;
  #isEndDelivered = false;
  #isPaused = true;
  #wantsDrain = false;
  #closed = false;
  /** Bytes that came while paused, not consumed. */
  readonly #held = new ByteQueue();
  /** Bytes a full sink took: consumed when it has room again. */
  #unconsumed = 0;
  /** Closed in order, but not all is delivered yet. */
  #finalReason: CloseReason | undefined;

  constructor(session: StreamOwner, id: number) {
    this.session = session;
    this.id = id;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Our end was asked for and has not gone out. */
  get isEndDue(): boolean {
    return this.isEnding && !this.isEndSent;
  }

  write(address: number, length: number): boolean {
    if (this.#closed || this.isEnding || length === 0) return !this.#wantsDrain;
    this.out.push(address, length);
    return this.#afterWrite();
  }

  writeBytes(bytes: Uint8Array): boolean {
    if (this.#closed || this.isEnding || bytes.length === 0) return !this.#wantsDrain;
    this.out.pushBytes(bytes);
    return this.#afterWrite();
  }

  #afterWrite(): boolean {
    this.session.markReady(this);
    if (this.out.length > HIGH_WATER_BYTES) this.#wantsDrain = true;
    return !this.#wantsDrain;
  }

  /** The session has framed some of `out`. */
  noteSent(): void {
    if (!this.#wantsDrain || this.out.length > LOW_WATER_BYTES) return;
    this.#wantsDrain = false;
    this.session.reactor.defer(() => {
      if (!this.#closed) this.handler.onDrain();
    });
  }

  end(): void {
    if (this.isEnding || this.#closed) return;
    this.isEnding = true;
    // With bytes of its source in a frame that is being built, the end goes out in that frame.
    if (!this.isFraming) this.session.markReady(this);
  }

  endWithTrailers(trailers: HeaderList): void {
    if (this.isEnding || this.#closed) return;
    this.trailers = trailers;
    this.end();
  }

  respond(headers: HeaderList, endStream: boolean): void {
    if (this.#closed) return;
    if (endStream) this.isEnding = true;
    this.session.sendResponse(this, headers, endStream);
  }

  reset(): void {
    this.resetWith(CANCEL);
  }

  resetWith(errorCode: number): void {
    if (this.#closed) return;
    this.session.sendReset(this, errorCode);
    this.close({ code: 'closed', detail: 'closed by us' });
  }

  /** The peer has said everything and wants no more of ours (RFC 9113 8.1). What came is still delivered, with its end. */
  stopSending(): void {
    this.isEnding = true;
    this.isEndSent = true;
    this.#wantsDrain = false;
    this.out.clear();
    const { source } = this;
    this.source = undefined;
    // From now on it is read by its handler, which sees this stream closed.
    source?.setPuller(undefined);
    source?.resume();
    if (source?.canReadNow() === true) source.readLater();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused || this.#closed) return;
    this.#isPaused = false;
    this.session.reactor.defer(() => this.#deliver());
  }

  /** Gives out what came while paused. */
  #deliver(): void {
    if (this.#closed || this.#isPaused) return;
    if (this.#unconsumed > 0) {
      const bytes = this.#unconsumed;
      this.#unconsumed = 0;
      this.session.consume(this, bytes);
    }
    const length = this.#held.length;
    if (length > 0) {
      this.#giveOut(this.#held.address, length);
      this.#held.shift(length);
      if (!this.isClosed) this.session.consume(this, length);
    }
    this.#deliverEnd();
  }

  #giveOut(address: number, length: number): void {
    if (this.sink === undefined) {
      this.handler.onData(address, length);
      return;
    }
    this.countSink(length);
    if (!this.sink.write(address, length)) this.pause();
    this.tap?.received(address, length);
  }

  /** Bytes from the peer. True if they were taken, so that the session may consume them. */
  receive(address: number, length: number): boolean {
    if (this.#closed) return true;
    if (this.#isPaused || this.#held.length > 0) {
      this.#held.push(address, length);
      return false;
    }
    this.handler.onData(address, length);
    return true;
  }

  /** A batch may go to the sink right away. */
  canSink(): boolean {
    return this.sink !== undefined && !this.#isPaused && this.#held.length === 0 && !this.#closed;
  }

  /** A batch was written to the sink; with a full sink its bytes are consumed later. */
  noteSunk(bytes: number, hasRoom: boolean): void {
    this.countSink(bytes);
    if (hasRoom) {
      this.session.consume(this, bytes);
      return;
    }
    this.#unconsumed += bytes;
    this.pause();
  }

  /** END_STREAM came. */
  receiveEnd(): void {
    this.isEndReceived = true;
    this.#deliverEnd();
  }

  #deliverEnd(): void {
    if (!this.isEndReceived || this.#isEndDelivered || this.#closed) return;
    if (this.#isPaused || this.#held.length > 0) return;
    this.#isEndDelivered = true;
    this.handler.onEnd();
    if (this.#finalReason !== undefined) this.close(this.#finalReason);
  }

  attachSource(source: TcpStream, onBytes: (bytes: number) => void): void {
    this.source = source;
    this.countSource = onBytes;
    source.setPuller({
      onReadable: () => {
        // While the window is shut nothing is read, so a reset would go unseen.
        if (this.isWindowBlocked) source.failIfBroken();
        else this.session.markReadable(this);
      },
    });
  }

  attachSink(sink: TcpStream, onBytes: (bytes: number) => void): void {
    this.sink = sink;
    this.countSink = onBytes;
  }

  /** Closes; `onClose` follows. In order (`ok`), what came while paused is delivered first. */
  close(reason: CloseReason): void {
    if (this.#closed) return;
    if (reason.code === 'ok' && !this.#isEndDelivered) this.#finalReason = reason;
    else this.#finish(reason);
  }

  #finish(reason: CloseReason): void {
    this.#closed = true;
    this.source?.setPuller(undefined);
    this.source = undefined;
    this.sink = undefined;
    this.tap = undefined;
    this.out.clear();
    // The connection's window would shrink for good by what nobody will read.
    const left = this.#held.length + this.#unconsumed;
    this.#held.clear();
    if (left > 0) this.session.consume(this, left);
    this.session.reactor.defer(() => this.handler.onClose(reason));
  }
}
