// What an application has sent before there is a connection for it. It travels with the request for a tunnel, before the
// answer (RFC 9113 section 8.5: DATA follows the initial HEADERS), and is kept for another try until the answer comes.
import type { EarlyBytes } from '../../common/hbone/types.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';

const NONE = new Uint8Array(0);

/** The early bytes of one connection; `known` was read already. */
export class ApplicationBytes implements EarlyBytes {
  readonly #stream: TcpStream;
  #bytes: Uint8Array;
  #hasRead = false;

  constructor(stream: TcpStream, known: Uint8Array = NONE) {
    this.#stream = stream;
    this.#bytes = known;
  }

  /** Those known until now. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** The first call reads what lies in the socket; each other gives the same. */
  take(): Uint8Array {
    if (this.#hasRead) return this.#bytes;
    this.#hasRead = true;
    const more = this.#stream.readEarly();
    if (this.#bytes.length === 0) this.#bytes = more;
    else if (more.length > 0) this.#bytes = Buffer.concat([this.#bytes, more]);
    return this.#bytes;
  }
}
