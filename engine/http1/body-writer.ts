// The sending half of an HTTP/1.1 message: head, body in the chosen framing, end. Shared by client and server.
import type { HeaderList } from '../http2/types.ts';
import type { Duplex } from '../reactor/duplex.ts';
import { writeTrailers } from './heads.ts';
import type { Framing } from './heads.ts';

const LAST_CHUNK = Buffer.from('0\r\n\r\n', 'latin1');
const CRLF = Buffer.from('\r\n', 'latin1');

/** Sends one message at a time over a connection. */
export class BodyWriter {
  readonly #duplex: Duplex;
  #framing: Framing = 'none';
  #isOpen = false;

  constructor(duplex: Duplex) {
    this.#duplex = duplex;
  }

  /** A message is being sent. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Sends a head; with `none` the message is complete. */
  start(head: string, framing: Framing, endStream: boolean): void {
    this.#framing = framing;
    this.#isOpen = !endStream;
    this.#duplex.writeBytes(Buffer.from(head, 'latin1'));
    if (endStream && framing === 'chunked') this.#duplex.writeBytes(LAST_CHUNK);
  }

  write(address: number, length: number): boolean {
    if (!this.#isOpen || length === 0) return true;
    if (this.#framing === 'none') return true; // the answer to HEAD: its body is not sent
    if (this.#framing !== 'chunked') return this.#duplex.write(address, length);
    this.#duplex.writeBytes(chunkLine(length));
    this.#duplex.write(address, length);
    return this.#duplex.writeBytes(CRLF);
  }

  writeBytes(bytes: Uint8Array): boolean {
    if (!this.#isOpen || bytes.length === 0) return true;
    if (this.#framing === 'none') return true;
    if (this.#framing !== 'chunked') return this.#duplex.writeBytes(bytes);
    this.#duplex.writeBytes(chunkLine(bytes.length));
    this.#duplex.writeBytes(bytes);
    return this.#duplex.writeBytes(CRLF);
  }

  /** Ends the message. A message framed by `close` needs the connection's end after it. */
  end(trailers: HeaderList | undefined): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.#framing !== 'chunked') return;
    if (trailers === undefined || trailers.length === 0) this.#duplex.writeBytes(LAST_CHUNK);
    else this.#duplex.writeBytes(Buffer.from(writeTrailers(trailers), 'latin1'));
  }
}

function chunkLine(length: number): Buffer {
  return Buffer.from(`${length.toString(16)}\r\n`, 'latin1');
}
