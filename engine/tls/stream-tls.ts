// TLS over any Duplex: the inner tunnel of double HBONE runs over the outer tunnel's stream. What arrives is copied into
// a memory BIO; what OpenSSL writes goes through the thread's shared BIO to the stream. For sockets there is the faster
// tls-connection.ts. The stream's `write` must not run TLS within the call (an HTTP/2 stream's does not: it queues).
import { BLOCK_BYTES, eachBlock, releaseBlock, takeBlock } from '../native/memory.ts';
import {
  BIO_new,
  BIO_s_mem,
  BIO_write,
  ERR_clear_error,
  SSL_ERROR_WANT_READ,
  SSL_ERROR_WANT_WRITE,
  SSL_ERROR_ZERO_RETURN,
  SSL_do_handshake,
  SSL_free,
  SSL_get_error,
  SSL_get_verify_result,
  SSL_new,
  SSL_read,
  SSL_set0_rbio,
  SSL_set0_wbio,
  SSL_set_accept_state,
  SSL_set_connect_state,
  SSL_shutdown,
  SSL_write,
  X509_verify_cert_error_string,
  takeErrorText,
} from '../native/openssl.ts';
import {
  IGNORE_STREAM,
  type CloseReason,
  type Duplex,
  type DuplexHandler,
} from '../reactor/duplex.ts';
import type { Reactor } from '../reactor/reactor.ts';
import { CLOSED_OK, StreamError } from '../reactor/stream-error.ts';
import type { ReactorTimer } from '../reactor/timer-heap.ts';
import { readAlpn, readUriSans } from './peer-certificate.ts';
import { enterHandshake, type TlsContext } from './tls-context.ts';
import type { TlsPeer, VerifyPeer } from './types.ts';
import { emptyWriteBio, shareWriteBio, writtenAddress, writtenBytes } from './write-bio.ts';

const DEFAULT_HANDSHAKE_MS = 10_000;
const RECORD_BYTES = 16 * 1024;
const X509_V_OK = 0;
let connections = 0;

/** TLS connections over streams that hold an SSL object; for leak tests. */
export function streamTlsCount(): number {
  return connections;
}

/** How to establish TLS on a stream. */
export interface StreamTlsOptions {
  /** Accepts or refuses the verified peer's URI SANs. */
  readonly verifyPeer: VerifyPeer;
  /** Default 10 s. */
  readonly handshakeTimeoutMs?: number;
}

/** An established connection; the peer is verified before it exists. */
export interface StreamTlsConnection extends Duplex {
  readonly peer: TlsPeer;
}

/**
 * Runs the handshake on an open stream, which is taken over. Rejects with StreamError: tls, timeout, reset. The
 * connection is paused: set `handler`, `resume()`.
 */
export function startStreamTls(
  reactor: Reactor,
  stream: Duplex,
  context: TlsContext,
  options: StreamTlsOptions,
): Promise<StreamTlsConnection> {
  return new Promise((resolve, reject) => {
    if (stream.isClosed || context.pointer === 0) {
      stream.reset();
      const isGone = context.pointer !== 0;
      reject(
        isGone
          ? new StreamError('reset', 'closed before the handshake')
          : new StreamError('tls', 'context is closed'),
      );
      return;
    }
    new StreamTls({ reactor, stream }, context, options, { resolve, reject }).start();
  });
}

interface Waiter {
  readonly resolve: (connection: StreamTlsConnection) => void;
  readonly reject: (err: StreamError) => void;
}

class StreamTls implements StreamTlsConnection {
  handler: DuplexHandler = IGNORE_STREAM;
  peer: TlsPeer = { uriSans: [], alpn: '' };
  readonly #reactor: Reactor;
  readonly #stream: Duplex;
  readonly #context: TlsContext;
  readonly #options: StreamTlsOptions;
  readonly #ssl: number;
  readonly #rbio: number;
  #waiter: Waiter | undefined;
  #timer: ReactorTimer | undefined;
  #isPaused = true;
  #isReading = false;
  #readEnded = false;
  #writeEnded = false;
  #closed = false;

  constructor(
    on: { readonly reactor: Reactor; readonly stream: Duplex },
    context: TlsContext,
    options: StreamTlsOptions,
    waiter: Waiter,
  ) {
    this.#reactor = on.reactor;
    this.#stream = on.stream;
    this.#context = context;
    this.#options = options;
    this.#waiter = waiter;
    this.#ssl = SSL_new(context.pointer);
    this.#rbio = BIO_new(BIO_s_mem());
    SSL_set0_rbio(this.#ssl, this.#rbio);
    SSL_set0_wbio(this.#ssl, shareWriteBio());
    connections++;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  start(): void {
    if (this.#context.isServer) SSL_set_accept_state(this.#ssl);
    else SSL_set_connect_state(this.#ssl);
    this.#timer = this.#reactor.after(
      this.#options.handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_MS,
      () => this.#close({ code: 'timeout', detail: 'inner tls handshake timed out' }),
    );
    this.#stream.handler = {
      onData: (address, length) => this.#receive(address, length),
      onEnd: () => this.#streamEnded(),
      onDrain: () => {
        if (this.#waiter === undefined && !this.#closed) this.handler.onDrain();
      },
      onClose: (reason) =>
        this.#close(reason.code === 'ok' ? { code: 'reset', detail: 'stream ended' } : reason),
    };
    this.#stream.resume();
    this.#handshake();
  }

  #receive(address: number, length: number): void {
    if (this.#closed) return;
    if (BIO_write(this.#rbio, address, length) !== length) {
      this.#close({ code: 'limit', detail: 'no memory for tls input' });
      return;
    }
    if (this.#waiter !== undefined) this.#handshake();
    else this.#read();
  }

  /** TLS ends with close_notify; a stream that ends without was cut. */
  #streamEnded(): void {
    if (this.#readEnded || this.#closed) return;
    this.#close({ code: 'reset', detail: 'stream ended without close_notify' });
  }

  #handshake(): void {
    ERR_clear_error();
    enterHandshake(this.#context);
    const result = SSL_do_handshake(this.#ssl);
    const error = result === 1 ? 0 : SSL_get_error(this.#ssl, result);
    const failure = isWaiting(error) || error === 0 ? undefined : this.#failure('handshake');
    this.#drain();
    if (this.isClosed) return;
    if (failure !== undefined) this.#close(failure);
    else if (result === 1) this.#established();
  }

  #established(): void {
    const uriSans = readUriSans(this.#ssl);
    const refusal = this.#options.verifyPeer(uriSans);
    if (refusal !== undefined) {
      this.#close({ code: 'tls', detail: `peer refused: ${refusal}` });
      return;
    }
    this.peer = { uriSans, alpn: readAlpn(this.#ssl) };
    const waiter = this.#waiter;
    this.#waiter = undefined;
    this.#timer?.cancel();
    // What came with the end of the handshake waits in the BIO for `resume`.
    this.#stream.pause();
    waiter?.resolve(this);
  }

  /** The reason for a failed SSL call, from the error queue. */
  #failure(what: string): CloseReason {
    const verify = SSL_get_verify_result(this.#ssl);
    const text = takeErrorText();
    const detail = verify === X509_V_OK ? text : X509_verify_cert_error_string(verify);
    return { code: 'tls', detail: `inner ${what}: ${detail}` };
  }

  #canRead(): boolean {
    return !this.#isPaused && !this.#closed && !this.#readEnded;
  }

  /** Hands over what OpenSSL has, block by block, until it has nothing or the handler pauses. */
  #read(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    const block = takeBlock();
    try {
      for (let error = 0; error === 0 && this.#canRead();) {
        ERR_clear_error();
        let total = 0;
        while (error === 0 && total + RECORD_BYTES <= BLOCK_BYTES) {
          const length = SSL_read(this.#ssl, block.address + total, BLOCK_BYTES - total);
          if (length > 0) total += length;
          else error = SSL_get_error(this.#ssl, length);
        }
        const isOrderly = error === 0 || isWaiting(error) || error === SSL_ERROR_ZERO_RETURN;
        const failure = isOrderly ? undefined : this.#failure('read');
        this.#drain();
        if (total > 0 && !this.#closed) this.handler.onData(block.address, total);
        this.#endRead(error, failure);
      }
    } finally {
      releaseBlock();
      this.#isReading = false;
    }
  }

  #endRead(error: number, failure: CloseReason | undefined): void {
    if (this.#closed) return;
    if (failure !== undefined) {
      this.#close(failure);
    } else if (error === SSL_ERROR_ZERO_RETURN) {
      this.#readEnded = true;
      this.handler.onEnd();
      this.#closeIfDone();
    }
  }

  pause(): void {
    this.#isPaused = true;
    this.#stream.pause();
  }

  resume(): void {
    if (!this.#isPaused || this.#closed) return;
    this.#isPaused = false;
    this.#reactor.defer(() => {
      if (!this.#canRead()) return;
      this.#read();
      if (this.#canRead()) this.#stream.resume();
    });
  }

  write(address: number, length: number): boolean {
    let hasRoom = true;
    for (let done = 0; done < length; done += BLOCK_BYTES) {
      if (this.#closed || this.#writeEnded) return false;
      hasRoom = this.#encrypt(address + done, Math.min(length - done, BLOCK_BYTES));
    }
    return hasRoom;
  }

  writeBytes(bytes: Uint8Array): boolean {
    let hasRoom = true;
    const isTaken = eachBlock(bytes, (address, length) => {
      if (this.#closed || this.#writeEnded) return false;
      hasRoom = this.#encrypt(address, length);
      return true;
    });
    return isTaken && hasRoom;
  }

  #encrypt(address: number, length: number): boolean {
    ERR_clear_error();
    const failure =
      SSL_write(this.#ssl, address, length) === length ? undefined : this.#failure('write');
    const hasRoom = this.#drain();
    if (failure !== undefined) this.#close(failure);
    return hasRoom && !this.#closed;
  }

  /** Passes on what OpenSSL has written; false asks to stop until `onDrain`. */
  #drain(): boolean {
    const length = writtenBytes();
    if (length <= 0) return true;
    const hasRoom = this.#closed || this.#stream.write(writtenAddress(), length);
    emptyWriteBio(length);
    return hasRoom;
  }

  end(): void {
    if (this.#writeEnded || this.#closed) return;
    this.#writeEnded = true;
    ERR_clear_error();
    SSL_shutdown(this.#ssl);
    this.#drain();
    this.#stream.end();
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (this.#writeEnded && this.#readEnded) this.#close(CLOSED_OK);
  }

  reset(): void {
    this.#close({ code: 'closed', detail: 'closed by us' });
  }

  #close(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    this.#timer?.cancel();
    this.#leaveStream(reason === CLOSED_OK);
    this.#reactor.defer(() => {
      // Freed here, when no call on this connection can be on the stack.
      SSL_free(this.#ssl);
      connections--;
      if (waiter === undefined) this.handler.onClose(reason);
    });
    waiter?.reject(new StreamError(reason.code, reason.detail));
  }

  /** In order, our last records are still on their way and the peer's FIN is awaited; else all is cut. */
  #leaveStream(isOrderly: boolean): void {
    if (this.#stream.isClosed) return;
    this.#stream.handler = IGNORE_STREAM;
    if (isOrderly) this.#stream.resume();
    else this.#stream.reset();
  }
}

function isWaiting(error: number): boolean {
  return error === SSL_ERROR_WANT_READ || error === SSL_ERROR_WANT_WRITE;
}
