// An HTTP/2 session: nghttp2 over any Duplex. Input is handed to nghttp2 as it arrives, but for what tunnels carry
// (frame-reader.ts); output is produced once at the end of the turn (frame-writer.ts). Windows open only by what was consumed. RFC 9113.
import { readLatin1, reserve, scratch } from '../native/memory.ts';
import {
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_SETTINGS,
  NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE,
  NGHTTP2_FLAG_ACK,
  NGHTTP2_FLAG_END_STREAM,
  SETTINGS_INITIAL_WINDOW_SIZE,
  SETTINGS_MAX_CONCURRENT_STREAMS,
  nghttp2_session_client_new2,
  nghttp2_session_del,
  nghttp2_session_get_last_proc_stream_id,
  nghttp2_session_get_remote_settings,
  nghttp2_session_server_new2,
  nghttp2_session_set_local_window_size,
  nghttp2_session_terminate_session,
  nghttp2_session_want_read,
  nghttp2_session_want_write,
  nghttp2_strerror,
  nghttp2_submit_goaway,
  nghttp2_submit_headers,
  nghttp2_submit_ping,
  nghttp2_submit_rst_stream,
  nghttp2_submit_settings,
  nghttp2_submit_shutdown_notice,
} from '../native/nghttp2.ts';
import type { CloseReason, Duplex } from '../reactor/duplex.ts';
import type { Reactor } from '../reactor/reactor.ts';
import { StreamError } from '../reactor/stream-error.ts';
import type { ReactorTimer } from '../reactor/timer-heap.ts';
import {
  NO_ERROR,
  PROTOCOL_ERROR,
  reasonFromErrorCode,
  reasonOfEnd,
  reasonOfRejection,
} from './error-codes.ts';
import { FrameWriter } from './frame-writer.ts';
import { isConnect, withHeaderBlock, writeSettings } from './header-block.ts';
import { OwnedStream, type StreamOwner } from './http2-stream.ts';
import { enter, leave, nghttp2Thread, type FrameView } from './session-callbacks.ts';
import { ReceiveWindow } from './receive-window.ts';
import { SessionInput, type InputOwner } from './session-input.ts';
import { PingKeepalive, closeTransport } from './session-timers.ts';
import type {
  HeaderList,
  Http2SessionEvents,
  Http2SessionOptions,
  Http2Stream,
  Http2StreamEvents,
} from './types.ts';

const CATEGORY_REQUEST = 0;
const NEW_STREAM = -1;
const DEFAULT_HEADER_LIST_BYTES = 64 * 1024;
const DEFAULT_FRAME_BYTES = 16_384;
const HEADER_OVERHEAD = 32;
// A graceful GOAWAY announces the end, waits for streams already on their way, then names the last one.
const DRAIN_NOTICE_MS = 1000;
const pointerOffset = reserve(8);

let sessions = 0;

/** nghttp2 sessions of this thread; for leak tests. */
export function http2SessionCount(): number {
  return sessions;
}

/** One session; made by `serveHttp2` and `connectHttp2`. */
export class OwnedSession implements StreamOwner, InputOwner {
  readonly reactor: Reactor;
  readonly #isServer: boolean;
  readonly #transport: Duplex;
  readonly #options: Http2SessionOptions;
  readonly #events: Http2SessionEvents;
  readonly #pointer: number;
  readonly #streams = new Map<number, OwnedStream>();
  readonly #writer: FrameWriter;
  readonly #maxHeaderBytes: number;
  readonly #window: ReceiveWindow;
  readonly #input: SessionInput;
  #headerStream: OwnedStream | undefined;
  #maxPeerStreams = 100;
  #isGoawayReceived = false;
  #isDraining = false;
  #isDirty = false;
  #closed = false;
  readonly #keepalive: PingKeepalive;
  #drainTimer: ReactorTimer | undefined;

  constructor(
    isServer: boolean,
    on: { reactor: Reactor; transport: Duplex },
    options: Http2SessionOptions,
    events: Http2SessionEvents,
  ) {
    this.reactor = on.reactor;
    this.#isServer = isServer;
    this.#transport = on.transport;
    this.#options = options;
    this.#events = events;
    this.#maxHeaderBytes = options.settings.maxHeaderListSize ?? DEFAULT_HEADER_LIST_BYTES;
    this.#pointer = this.#newSession();
    this.#window = new ReceiveWindow(this.#pointer, options.settings);
    this.#writer = new FrameWriter(this.#pointer, this, on.transport, {
      streams: this.#streams,
      receiveWindow: this.#window,
    });
    this.#input = new SessionInput(this.#pointer, this, {
      isServer,
      maxFrameBytes: options.settings.maxFrameSize ?? DEFAULT_FRAME_BYTES,
      streams: this.#streams,
      window: this.#window,
      writer: this.#writer,
    });
    sessions++;
    this.#keepalive = new PingKeepalive(this.reactor, options, {
      ping: () => {
        nghttp2_submit_ping(this.#pointer, 0, 0);
        this.markDirty();
      },
      expired: () => this.fail({ code: 'timeout', detail: 'no answer to ping' }),
    });
    this.#submitSettings();
    on.transport.handler = {
      onData: (address, length) => this.#receive(address, length),
      onEnd: () => this.fail({ code: 'reset', detail: 'connection ended by peer' }),
      onDrain: () => {
        this.#writer.isBlocked = false;
        this.markDirty();
      },
      onClose: (reason) =>
        this.fail(reason.code === 'ok' ? { code: 'reset', detail: 'connection ended' } : reason),
    };
    on.transport.resume();
    // It may have ended before it had this handler.
    if (on.transport.isClosed) {
      this.reactor.defer(() => this.fail({ code: 'reset', detail: 'connection ended' }));
    }
    this.#keepalive.start();
  }

  #newSession(): number {
    const { callbacks, option } = nghttp2Thread();
    const create = this.#isServer ? nghttp2_session_server_new2 : nghttp2_session_client_new2;
    if (create(scratch.address + pointerOffset, callbacks, 0, option) !== 0) {
      throw new StreamError('io', 'out of memory for an http2 session');
    }
    return Number(scratch.view.getBigUint64(pointerOffset, true));
  }

  #submitSettings(): void {
    const { settings } = this.#options;
    const { address, count } = writeSettings(settings);
    nghttp2_submit_settings(this.#pointer, 0, address, count);
    if (settings.connectionWindowSize !== undefined) {
      nghttp2_session_set_local_window_size(this.#pointer, 0, 0, settings.connectionWindowSize);
    }
    this.markDirty();
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  get activeStreams(): number {
    return this.#streams.size;
  }

  get canOpenStream(): boolean {
    const mayOpen = !this.#closed && !this.#isGoawayReceived && !this.#isDraining;
    return mayOpen && this.#streams.size < this.#maxPeerStreams;
  }

  /** Streams that wait for a window; for leak tests. */
  get blockedStreams(): number {
    return this.#writer.blockedCount;
  }

  get isHeldUp(): boolean {
    return this.#window.isHeldUp || this.#writer.isHeldUp;
  }

  request(headers: HeaderList, endStream: boolean, events: Http2StreamEvents): Http2Stream {
    if (!this.canOpenStream) throw new StreamError('limit', 'session takes no more streams');
    // Without a data provider: bodies are submitted when there is something to send (FrameWriter).
    const id = this.#submitHeaders(NEW_STREAM, headers, endStream);
    if (id < 0) {
      this.#isDraining = true;
      throw new StreamError('protocol', `cannot open stream: ${nghttp2_strerror(id)}`);
    }
    const stream = new OwnedStream(this, id);
    stream.events = events;
    stream.sendWindow = this.#writer.initialWindow;
    stream.isConnect = isConnect(headers);
    if (endStream) stream.isEnding = stream.isEndSent = true;
    this.#streams.set(id, stream);
    this.markDirty();
    return stream;
  }

  /** The new stream's id, 0, or nghttp2's error. */
  #submitHeaders(id: number, headers: HeaderList, endStream: boolean): number {
    const flags = endStream ? NGHTTP2_FLAG_END_STREAM : 0;
    return withHeaderBlock(headers, (address, count) =>
      nghttp2_submit_headers(this.#pointer, flags, id, 0, address, count, 0),
    );
  }

  sendResponse(stream: OwnedStream, headers: HeaderList, endStream: boolean): void {
    if (this.#closed) return;
    const code = this.#submitHeaders(stream.id, headers, endStream);
    if (code < 0) throw new StreamError('protocol', `cannot respond: ${nghttp2_strerror(code)}`);
    stream.isOpen = true;
    if (endStream) stream.isEndSent = true;
    this.markDirty();
  }

  sendReset(stream: OwnedStream, errorCode: number): void {
    if (this.#closed) return;
    nghttp2_submit_rst_stream(this.#pointer, 0, stream.id, errorCode);
    this.markDirty();
  }

  consume(stream: OwnedStream, bytes: number): void {
    if (!this.#closed && this.#window.take(stream, bytes)) this.markDirty(!stream.isTunnel);
  }

  markReady(stream: OwnedStream): void {
    if (this.#closed) return;
    this.#writer.addReady(stream);
    this.markDirty();
  }

  markReadable(stream: OwnedStream): void {
    if (this.#closed) return;
    this.#writer.addReadable(stream);
    this.markDirty(false);
  }

  markDirty(mayHaveFrames = true): void {
    this.#writer.mayHaveFrames ||= mayHaveFrames;
    if (this.#isDirty || this.#closed) return;
    this.#isDirty = true;
    this.reactor.markDirty(this.#flush);
  }

  readonly #flush = (): void => {
    this.#isDirty = false;
    if (this.#closed) return;
    const before = enter(this);
    let failure: number;
    try {
      failure = this.#writer.flush();
    } finally {
      this.#rethrow(leave(before));
    }
    if (this.isClosed) return;
    if (failure < 0) {
      this.fail({ code: 'protocol', detail: nghttp2_strerror(failure) });
    } else if (this.#writer.hasMore) {
      // Others first: the rest follows in the next turn.
      this.reactor.again({ onReady: () => this.markDirty() });
    } else if (
      (this.#writer.hasSentControl || this.#isGoawayReceived || this.#isDraining) &&
      nghttp2_session_want_read(this.#pointer) === 0 &&
      nghttp2_session_want_write(this.#pointer) === 0
    ) {
      this.fail(reasonOfEnd(this.#isDraining || this.#isGoawayReceived));
    }
  };

  #receive(address: number, length: number): void {
    if (this.#closed) return;
    const before = enter(this);
    try {
      this.#input.read(address, length);
    } finally {
      this.#rethrow(leave(before));
    }
  }

  #rethrow(thrown: { error: unknown } | undefined): void {
    if (thrown === undefined) return;
    this.fail({ code: 'closed', detail: 'handler failed' });
    throw thrown.error;
  }

  onBeginHeaders(frame: FrameView): number {
    if (this.#closed) return 0;
    let stream = this.#streams.get(frame.streamId);
    if (stream === undefined && this.#isServer && frame.detail === CATEGORY_REQUEST) {
      stream = new OwnedStream(this, frame.streamId);
      stream.sendWindow = this.#writer.initialWindow;
      this.#streams.set(frame.streamId, stream);
    }
    if (stream !== undefined) {
      stream.headers = [];
      stream.headerBytes = 0;
    }
    this.#headerStream = stream;
    return 0;
  }

  onHeader(name: number, nameLength: number, value: number, valueLength: number): number {
    const stream = this.#headerStream;
    if (stream === undefined) return 0;
    stream.headerBytes += nameLength + valueLength + HEADER_OVERHEAD;
    if (stream.headerBytes > this.#maxHeaderBytes) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    stream.headers.push([readLatin1(name, nameLength), readLatin1(value, valueLength)]);
    return 0;
  }

  onDataChunk(streamId: number, address: number, length: number): number {
    if (this.#closed) return 0;
    const stream = this.#streams.get(streamId);
    if (stream === undefined) this.#window.takeForNobody(length);
    else this.#input.data(stream, address, length);
    return 0;
  }

  onFrame(frame: FrameView): number {
    if (this.#closed) return 0;
    const { streamId, flags, detail } = frame;
    switch (frame.type) {
      case FRAME_DATA:
        if ((flags & NGHTTP2_FLAG_END_STREAM) !== 0) this.#endReceived(streamId);
        break;
      case FRAME_HEADERS:
        this.#headersReceived(streamId, detail, (flags & NGHTTP2_FLAG_END_STREAM) !== 0);
        break;
      case FRAME_SETTINGS:
        this.#maxPeerStreams = this.#peerSetting(SETTINGS_MAX_CONCURRENT_STREAMS);
        this.#writer.initialWindowIs(this.#peerSetting(SETTINGS_INITIAL_WINDOW_SIZE));
        break;
      case FRAME_PING:
        if ((flags & NGHTTP2_FLAG_ACK) !== 0) this.#keepalive.start();
        break;
      case FRAME_GOAWAY:
        this.#isGoawayReceived = true;
        this.#events.onGoaway();
        break;
    }
    return 0;
  }

  #peerSetting(id: number): number {
    return nghttp2_session_get_remote_settings(this.#pointer, id);
  }

  #endReceived(streamId: number): void {
    const stream = this.#streams.get(streamId);
    this.#input.gather.flush(stream);
    stream?.receiveEnd();
  }

  #headersReceived(streamId: number, category: number, endStream: boolean): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#input.gather.flush();
    const { headers } = stream;
    stream.headers = [];
    if (this.#isServer && category === CATEGORY_REQUEST) {
      stream.hasFinalHeaders = true;
      stream.isTunnel = isConnect(headers);
      stream.events = this.#events.onStream(stream, headers, endStream);
    } else if (stream.hasFinalHeaders) {
      stream.events?.onTrailers(headers);
    } else {
      const status = headers[0]?.[1] ?? '';
      stream.hasFinalHeaders = !status.startsWith('1');
      stream.isTunnel = stream.isConnect && status.startsWith('2');
      stream.isOpen = true;
      stream.events?.onHeaders(headers, endStream);
    }
    if (endStream && !stream.isClosed) stream.receiveEnd();
  }

  onStreamClose(streamId: number, errorCode: number): number {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return 0;
    this.#input.gather.flush();
    this.#streams.delete(streamId);
    this.#writer.forget(stream);
    if (this.#isServer && !stream.hasFinalHeaders) {
      this.#events.onRequestRejected?.(reasonOfRejection(stream.headerBytes, this.#maxHeaderBytes));
    }
    const isEnough = !this.#isServer && errorCode === NO_ERROR && stream.isEndReceived;
    if (isEnough && !stream.isEndSent) stream.stopSending();
    const isComplete = stream.isEndReceived && stream.isEndSent;
    stream.close(reasonFromErrorCode(errorCode, isComplete, this.#isGoawayReceived));
    return 0;
  }

  drain(): void {
    if (this.#isDraining || this.#closed) return;
    this.#isDraining = true;
    if (!this.#isServer) {
      this.#submitGoaway(0);
      return;
    }
    nghttp2_submit_shutdown_notice(this.#pointer);
    this.markDirty();
    this.#drainTimer = this.reactor.after(DRAIN_NOTICE_MS, () => {
      this.#submitGoaway(nghttp2_session_get_last_proc_stream_id(this.#pointer));
    });
  }

  #submitGoaway(lastStreamId: number): void {
    nghttp2_submit_goaway(this.#pointer, 0, lastStreamId, NO_ERROR, 0, 0);
    this.markDirty();
  }

  close(detail: string, code: 'closed' | 'revoked' = 'closed'): void {
    this.fail({ code, detail });
  }

  /** Ends everything: a last GOAWAY if the connection can take it, streams, then the connection. */
  fail(reason: CloseReason, errorCode?: number): void {
    if (this.#closed) return;
    this.#keepalive.stop();
    this.#drainTimer?.cancel();
    if (!this.#transport.isClosed) {
      const code = errorCode ?? (reason.code === 'protocol' ? PROTOCOL_ERROR : NO_ERROR);
      // nghttp2 forgets what it had to say to streams once the session is to end.
      if (code === NO_ERROR) this.#writer.sendLast();
      nghttp2_session_terminate_session(this.#pointer, code);
      this.#writer.sendLast();
    }
    this.#closed = true;
    for (const stream of this.#streams.values()) stream.close(reason);
    this.#streams.clear();
    this.#writer.clear();
    this.#input.gather.clear();
    closeTransport(this.reactor, this.#transport);
    this.reactor.defer(() => {
      // No call into nghttp2 is on the stack here.
      nghttp2_session_del(this.#pointer);
      sessions--;
      this.#events.onClose(reason);
    });
  }
}
