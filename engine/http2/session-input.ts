// What comes in on a session: to nghttp2, to streams, or to the windows of the sending half. frame-reader.ts splits the bytes;
// here is what each part does, and what a peer may not.
import { nghttp2_session_mem_recv2, nghttp2_strerror } from '../native/nghttp2.ts';
import type { CloseReason } from '../reactor/duplex.ts';
import { FLOW_CONTROL_ERROR, PROTOCOL_ERROR } from './error-codes.ts';
import { FrameReader, type FrameUser } from './frame-reader.ts';
import type { FrameWriter } from './frame-writer.ts';
import type { OwnedStream } from './http2-stream.ts';
import type { ReceiveWindow } from './receive-window.ts';
import { SinkGather } from './sink-gather.ts';

/** What input asks of its session. */
export interface InputOwner {
  readonly isClosed: boolean;
  /** Ends the session; `errorCode` goes into GOAWAY. */
  fail(reason: CloseReason, errorCode?: number): void;
  /** There is something to send, of nghttp2's too. */
  markDirty(mayHaveFrames?: boolean): void;
  /** Bytes of a stream were taken. */
  consume(stream: OwnedStream, bytes: number): void;
}

interface InputParts {
  readonly isServer: boolean;
  readonly maxFrameBytes: number;
  readonly streams: ReadonlyMap<number, OwnedStream>;
  readonly window: ReceiveWindow;
  readonly writer: FrameWriter;
}

/** The receiving half of one session. */
export class SessionInput implements FrameUser {
  /** DATA on its way to sockets. */
  readonly gather = new SinkGather();
  readonly #pointer: number;
  readonly #owner: InputOwner;
  readonly #parts: InputParts;
  readonly #reader: FrameReader;

  constructor(pointer: number, owner: InputOwner, parts: InputParts) {
    this.#pointer = pointer;
    this.#owner = owner;
    this.#parts = parts;
    this.#reader = new FrameReader(this, parts.isServer, parts.maxFrameBytes);
  }

  /** Bytes from the transport; the session is current for nghttp2's callbacks. */
  read(address: number, length: number): void {
    this.#reader.read(address, length);
    this.gather.flush();
  }

  get isClosed(): boolean {
    return this.#owner.isClosed;
  }

  control(address: number, length: number): void {
    const result = nghttp2_session_mem_recv2(this.#pointer, address, length);
    if (this.isClosed) return;
    if (result < 0) this.#owner.fail({ code: 'protocol', detail: nghttp2_strerror(result) });
    else this.#owner.markDirty();
  }

  tunnelOf(streamId: number): OwnedStream | undefined {
    const stream = this.#parts.streams.get(streamId);
    return stream?.isTunnel === true && !stream.isEndReceived ? stream : undefined;
  }

  begin(stream: OwnedStream, length: number): void {
    const { window } = this.#parts;
    if (!window.begin(stream, length))
      this.#break('peer sent more than its window', FLOW_CONTROL_ERROR);
    else if (window.isDue) this.#owner.markDirty(false);
  }

  data(stream: OwnedStream, address: number, length: number): void {
    if (stream.canSink()) {
      this.gather.add(stream, address, length);
      return;
    }
    this.gather.flush();
    if (stream.receive(address, length)) this.#owner.consume(stream, length);
  }

  padding(stream: OwnedStream, length: number): void {
    this.#owner.consume(stream, length);
  }

  opened(streamId: number, increment: number): boolean {
    const { streams, writer } = this.#parts;
    const stream = streamId === 0 ? undefined : streams.get(streamId);
    // An increment of none is an error, and so is one for a stream that never was: nghttp2 knows which were.
    if (increment === 0 || (stream === undefined && streamId !== 0)) return false;
    if (writer.windowOpened(stream, increment)) this.#owner.markDirty(false);
    else if (stream === undefined) this.#break('window wider than allowed', FLOW_CONTROL_ERROR);
    else {
      // What it has brought already would be lost, and with it a part of the connection's window.
      this.gather.flush();
      stream.resetWith(FLOW_CONTROL_ERROR);
    }
    return true;
  }

  malformed(detail: string): void {
    this.#break(detail, PROTOCOL_ERROR);
  }

  #break(detail: string, errorCode: number): void {
    this.#owner.fail({ code: 'protocol', detail }, errorCode);
  }
}
