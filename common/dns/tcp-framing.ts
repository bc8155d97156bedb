// DNS over TCP: messages with a two-byte length in front (RFC 1035 4.2.2, RFC 7766), in any pieces.

const LENGTH_BYTES = 2;
/** More pieces are joined: each costs far more than its byte. */
const MAX_PIECES = 32;

/** Puts the length in front of a message. */
export function frameMessage(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(LENGTH_BYTES + message.length);
  framed.writeUInt16BE(message.length, 0);
  framed.set(message, LENGTH_BYTES);
  return framed;
}

/** Cuts a byte stream into messages. Holds at most one unfinished message and the last chunk. */
export class MessageReader {
  #pending: Buffer[] = [];
  #length = 0;

  /** The messages that are whole now. */
  push(chunk: Buffer): Buffer[] {
    this.#pending.push(chunk);
    this.#length += chunk.length;
    if (this.#pending.length > MAX_PIECES) this.#joined();
    const messages: Buffer[] = [];
    for (;;) {
      const wanted = this.#wanted();
      if (wanted === undefined || this.#length < wanted) return messages;
      const all = this.#joined();
      messages.push(all.subarray(LENGTH_BYTES, wanted));
      this.#pending = [all.subarray(wanted)];
      this.#length = all.length - wanted;
    }
  }

  #wanted(): number | undefined {
    if (this.#length < LENGTH_BYTES) return undefined;
    if ((this.#pending[0]?.length ?? 0) < LENGTH_BYTES) this.#joined();
    return LENGTH_BYTES + (this.#pending[0]?.readUInt16BE(0) ?? 0);
  }

  /** One buffer of what is held. One piece stays what it is: a chunk of a thousand messages is not copied for each. */
  #joined(): Buffer {
    const [only] = this.#pending;
    if (only !== undefined && this.#pending.length === 1) return only;
    const all = Buffer.concat(this.#pending);
    this.#pending = [all];
    return all;
  }
}
