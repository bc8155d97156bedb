// A TLS connection over a TCP descriptor. OpenSSL reads the socket itself (read-ahead: one system call for several
// records); what it writes goes through the thread's shared memory BIO and leaves in one send(2).
import { SHUT_WR, SOL_SOCKET, SO_LINGER, setsockopt, shutdown } from '../native/libc.ts';
import {
  BLOCK_BYTES,
  eachBlock,
  releaseBlock,
  reserve,
  scratch,
  takeBlock,
} from '../native/memory.ts';
import {
  BIO_NOCLOSE,
  BIO_new_socket,
  BIO_number_read,
  ERR_clear_error,
  SSL_CTRL_SET_TLSEXT_HOSTNAME,
  SSL_ERROR_WANT_READ,
  SSL_ERROR_WANT_WRITE,
  SSL_ERROR_ZERO_RETURN,
  SSL_ctrl,
  SSL_do_handshake,
  SSL_free,
  SSL_get_error,
  SSL_get_verify_result,
  SSL_has_pending,
  SSL_new,
  SSL_read,
  SSL_set0_rbio,
  SSL_set0_wbio,
  SSL_set1_host,
  SSL_set_accept_state,
  SSL_set_connect_state,
  SSL_shutdown,
  SSL_write,
  X509_verify_cert_error_string,
  takeErrorText,
} from '../native/openssl.ts';
import { IGNORE_STREAM, type CloseReason, type DuplexHandler } from '../reactor/duplex.ts';
import { READY_ENDED, READY_READ, READY_WRITE, type Reactor } from '../reactor/reactor.ts';
import type { SocketAddress } from '../reactor/socket-address.ts';
import { CLOSED_OK, StreamError } from '../reactor/stream-error.ts';
import type { TcpStream } from '../reactor/tcp-stream.ts';
import type { ReactorTimer } from '../reactor/timer-heap.ts';
import { readAlpn, readUriSans } from './peer-certificate.ts';
import { isPeerRevoked } from './revocation.ts';
import { SocketWriter } from './socket-writer.ts';
import { enterHandshake, type TlsContext } from './tls-context.ts';
import type { TlsConnection, TlsPeer, VerifyPeer } from './types.ts';
import { emptyWriteBio, shareWriteBio, writtenAddress, writtenBytes } from './write-bio.ts';

const RECORD_BYTES = 16 * 1024;
const READS_PER_TURN = 4;
// Fewer bytes than this in a pass that began with an empty buffer: its first read(2) asked for more and was short,
// so the socket was empty then. (The rest of a record begun earlier is read without read-ahead.)
const SHORT_READ_BYTES = 32 * 1024;
const HIGH_WATER_BYTES = 64 * 1024;
const DEFAULT_HANDSHAKE_MS = 10_000;
const DEFAULT_MAX_HANDSHAKES = 1024;
const X509_V_OK = 0;
const lingerOffset = reserve(8);
const nameOffset = reserve(256);
let handshakes = 0;
let connections = 0;

/** TLS connections of this thread that hold an SSL object; for leak tests and admin. */
export function tlsConnectionCount(): number {
  return connections;
}

/** How to establish TLS on a TCP connection. */
export interface TlsOptions {
  /** Accepts or refuses the verified peer's URI SANs. Default: anyone who chains to the roots. */
  readonly verifyPeer?: VerifyPeer;
  /** Default 10 s. */
  readonly handshakeTimeoutMs?: number;
  /** Handshakes of this thread running at once; more are refused with `limit`. Default 1024. */
  readonly maxHandshakes?: number;
  /** Client: SNI, and the DNS name the certificate must have. Not sent for HBONE. */
  readonly serverName?: string;
}

/**
 * Runs the handshake on a connected stream, which is taken over: it must be new (paused, nothing written).
 * Rejects with StreamError: tls, timeout, limit, reset. The connection is paused: set `handler`, `resume()`.
 */
export function startTls(
  stream: TcpStream,
  context: TlsContext,
  options: TlsOptions = {},
): Promise<TlsConnection> {
  return new Promise((resolve, reject) => {
    if (stream.isClosed) {
      reject(new StreamError('reset', 'closed before the handshake'));
      return;
    }
    if (context.pointer === 0 || handshakes >= (options.maxHandshakes ?? DEFAULT_MAX_HANDSHAKES)) {
      stream.reset();
      reject(
        context.pointer === 0
          ? new StreamError('tls', 'context is closed')
          : new StreamError('limit', 'too many tls handshakes at once'),
      );
      return;
    }
    new OpensslConnection(stream, context, options, { resolve, reject }).start();
  });
}

interface Waiter {
  readonly resolve: (connection: TlsConnection) => void;
  readonly reject: (err: StreamError) => void;
}

class OpensslConnection implements TlsConnection {
  handler: DuplexHandler = IGNORE_STREAM;
  peer: TlsPeer = { uriSans: [], alpn: '' };
  readonly reactor: Reactor;
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
  readonly #fd: number;
  readonly #ssl: number;
  readonly #writer: SocketWriter;
  readonly #rbio: number;
  readonly #context: TlsContext;
  readonly #options: TlsOptions;
  #waiter: Waiter | undefined;
  #timer: ReactorTimer | undefined;
  #readable = true;
  #hasEnded: boolean;
  /** OpenSSL held nothing, not even part of a record, after the last pass. */
  #isBufferEmpty = false;
  /** Bytes OpenSSL had fetched from the socket when it last held nothing. */
  #fetched = 0;
  #isPaused = true;
  #isQueued = false;
  #readEnded = false;
  #writeEnding = false;
  #finSent = false;
  #wantsDrain = false;
  #closed = false;

  constructor(stream: TcpStream, context: TlsContext, options: TlsOptions, waiter: Waiter) {
    this.reactor = stream.reactor;
    this.remote = stream.peer;
    this.local = stream.local;
    this.#context = context;
    this.#options = options;
    this.#waiter = waiter;
    const { fd, hasEnded } = stream.detach();
    this.#fd = fd;
    this.#hasEnded = hasEnded;
    this.#writer = new SocketWriter(fd);
    this.#ssl = SSL_new(context.pointer);
    this.#rbio = BIO_new_socket(fd, BIO_NOCLOSE);
    SSL_set0_rbio(this.#ssl, this.#rbio);
    SSL_set0_wbio(this.#ssl, shareWriteBio());
    connections++;
  }

  start(): void {
    handshakes++;
    this.reactor.replaceHandler(this.#fd, this);
    if (this.#context.isServer) SSL_set_accept_state(this.#ssl);
    else SSL_set_connect_state(this.#ssl);
    this.#setServerName();
    this.#timer = this.reactor.after(this.#options.handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_MS, () =>
      this.#close({ code: 'timeout', detail: 'tls handshake timed out' }),
    );
    this.#handshake();
  }

  #setServerName(): void {
    const { serverName } = this.#options;
    if (serverName === undefined) return;
    const length = scratch.bytes.write(serverName.slice(0, 253), nameOffset, 'latin1');
    scratch.bytes[nameOffset + length] = 0;
    SSL_ctrl(this.#ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, scratch.address + nameOffset);
    SSL_set1_host(this.#ssl, serverName);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  isRevokedBy(context: { readonly pointer: number }): boolean {
    return !this.#closed && context.pointer !== 0 && isPeerRevoked(this.#ssl, context.pointer);
  }

  onReady(events: number): void {
    if (this.#closed) return;
    this.#isQueued = false;
    if ((events & READY_ENDED) !== 0) this.#hasEnded = true;
    if ((events & READY_READ) !== 0) this.#readable = true;
    if ((events & READY_WRITE) !== 0) {
      this.#writer.isWritable = true;
      if (this.#writer.pendingBytes > 0) this.#flushPending();
    }
    if (this.#waiter !== undefined) {
      if (this.#readable) this.#handshake();
      return;
    }
    this.#pump();
  }

  #handshake(): void {
    if (this.#closed) return;
    ERR_clear_error();
    enterHandshake(this.#context);
    const result = SSL_do_handshake(this.#ssl);
    const error = result === 1 ? 0 : SSL_get_error(this.#ssl, result);
    this.#drain();
    if (this.isClosed) return;
    if (result === 1) {
      this.#established();
      return;
    }
    if (error === SSL_ERROR_WANT_READ || error === SSL_ERROR_WANT_WRITE) {
      this.#readable = false;
      return;
    }
    this.#close(this.#failure('handshake'));
  }

  #established(): void {
    const uriSans = readUriSans(this.#ssl);
    const refusal = this.#options.verifyPeer?.(uriSans);
    if (this.isClosed) return;
    if (refusal !== undefined) {
      this.#close({ code: 'tls', detail: `peer refused: ${refusal}` });
      return;
    }
    this.peer = { uriSans, alpn: readAlpn(this.#ssl) };
    const waiter = this.#waiter;
    this.#endHandshake();
    waiter?.resolve(this);
  }

  #endHandshake(): void {
    if (this.#waiter === undefined) return;
    this.#waiter = undefined;
    this.#timer?.cancel();
    handshakes--;
  }

  /** The reason for a failed SSL call, from the error queue. */
  #failure(what: string): CloseReason {
    const verify = SSL_get_verify_result(this.#ssl);
    const text = takeErrorText();
    if (verify !== X509_V_OK) {
      return { code: 'tls', detail: `${what}: ${X509_verify_cert_error_string(verify)}` };
    }
    if (text === '' || text === 'unexpected eof while reading') {
      return { code: 'reset', detail: `${what}: connection ended without close_notify` };
    }
    return { code: 'tls', detail: `${what}: ${text}` };
  }

  #canRead(): boolean {
    return this.#readable && !this.#isPaused && !this.#closed && !this.#readEnded;
  }

  #pump(): void {
    for (let reads = 0; reads < READS_PER_TURN; reads++) {
      if (!this.#canRead()) return;
      this.#readBatch();
    }
    if (this.#canRead()) this.#readLater();
  }

  #readLater(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.reactor.again(this);
  }

  /** Decrypts up to a block of records and hands them over at once. */
  #readBatch(): void {
    const block = takeBlock();
    try {
      let error = 0;
      let total = 0;
      const wasEmpty = this.#isBufferEmpty;
      const before = this.#fetched;
      ERR_clear_error();
      while (total + RECORD_BYTES <= BLOCK_BYTES) {
        const length = SSL_read(this.#ssl, block.address + total, BLOCK_BYTES - total);
        if (length <= 0) {
          error = SSL_get_error(this.#ssl, length);
          // Part of a record may have come.
          if (BIO_number_read(this.#rbio) !== this.#fetched) this.#isBufferEmpty = false;
          break;
        }
        total += length;
        this.#isBufferEmpty = false;
        if (SSL_has_pending(this.#ssl) !== 0) continue;
        this.#isBufferEmpty = true;
        this.#fetched = BIO_number_read(this.#rbio);
        if (!wasEmpty || this.#hasEnded || this.#fetched - before >= SHORT_READ_BYTES) continue;
        this.#readable = false;
        break;
      }
      this.#drain();
      const failure = this.#noteReadError(error);
      if (total > 0 && !this.#closed) this.handler.onData(block.address, total);
      this.#endRead(error, failure);
    } finally {
      releaseBlock();
    }
  }

  #noteReadError(error: number): CloseReason | undefined {
    if (error === 0) return undefined;
    this.#readable = false;
    const isOrderly =
      error === SSL_ERROR_WANT_READ ||
      error === SSL_ERROR_WANT_WRITE ||
      error === SSL_ERROR_ZERO_RETURN;
    return isOrderly ? undefined : this.#failure('read');
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
  }

  resume(): void {
    if (!this.#isPaused || this.#closed) return;
    this.#isPaused = false;
    // OpenSSL may hold decrypted or buffered bytes for which no event will come.
    this.#readable = true;
    this.#readLater();
  }

  write(address: number, length: number): boolean {
    for (let done = 0; done < length; done += BLOCK_BYTES) {
      if (this.#closed || this.#writeEnding) return false;
      this.#encrypt(address + done, Math.min(length - done, BLOCK_BYTES));
    }
    return this.#afterWrite();
  }

  writeBytes(bytes: Uint8Array): boolean {
    const isTaken = eachBlock(bytes, (address, length) => {
      if (this.#closed || this.#writeEnding) return false;
      this.#encrypt(address, length);
      return true;
    });
    return isTaken && this.#afterWrite();
  }

  #afterWrite(): boolean {
    if (this.#writer.pendingBytes > HIGH_WATER_BYTES) this.#wantsDrain = true;
    return !this.#wantsDrain && !this.#closed;
  }

  #encrypt(address: number, length: number): void {
    const written = SSL_write(this.#ssl, address, length);
    if (written !== length) {
      const failure = this.#failure('write');
      this.#drain();
      this.#close(failure);
      return;
    }
    this.#drain();
  }

  /** Sends what OpenSSL has written. */
  #drain(): void {
    const length = writtenBytes();
    if (length <= 0) return;
    const failure = this.#closed ? undefined : this.#writer.send(writtenAddress(), length);
    emptyWriteBio(length);
    if (failure !== undefined) this.#close(failure);
  }

  #flushPending(): void {
    const failure = this.#writer.flush();
    if (failure !== undefined) this.#close(failure);
    if (this.#closed || this.#writer.pendingBytes > 0) return;
    if (this.#writeEnding) this.#sendFin();
    if (this.#wantsDrain && !this.isClosed) {
      this.#wantsDrain = false;
      this.handler.onDrain();
    }
  }

  end(): void {
    if (this.#writeEnding || this.#closed) return;
    this.#writeEnding = true;
    ERR_clear_error();
    SSL_shutdown(this.#ssl);
    this.#drain();
    if (this.#writer.pendingBytes === 0) this.#sendFin();
  }

  #sendFin(): void {
    if (this.#finSent || this.#closed) return;
    this.#finSent = true;
    shutdown(this.#fd, SHUT_WR);
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (this.#finSent && this.#readEnded) this.#close(CLOSED_OK);
  }

  reset(): void {
    if (this.#closed) return;
    scratch.view.setInt32(lingerOffset, 1, true);
    scratch.view.setInt32(lingerOffset + 4, 0, true);
    setsockopt(this.#fd, SOL_SOCKET, SO_LINGER, scratch.address + lingerOffset, 8);
    this.#close({ code: 'closed', detail: 'closed by us' });
  }

  #close(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#writer.clear();
    const waiter = this.#waiter;
    this.#endHandshake();
    this.reactor.closeFd(this.#fd);
    this.reactor.defer(() => {
      // Freed here, when no call on this connection can be on the stack.
      SSL_free(this.#ssl);
      connections--;
      if (waiter === undefined) this.handler.onClose(reason);
    });
    waiter?.reject(new StreamError(reason.code, reason.detail));
  }
}
