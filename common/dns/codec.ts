// DNS messages on the wire (RFC 1035, EDNS of RFC 6891), for cluster DNS and the node proxy's DNS. dns-packet reads
// the questions; answers are written here, since dns-packet neither compresses names nor keeps the asker's spelling.
// What is only passed on is never decoded.
import { decode, RECURSION_DESIRED } from 'dns-packet';
import { MeshError } from '../errors.ts';
import { parseIp } from '../workload/ip.ts';

const HEADER_BYTES = 12;
const MIN_UDP_BYTES = 512;
/** More than that is fragmented on most paths; the asker retries over TCP. */
const MAX_UDP_BYTES = 4096;
const RESPONSE = 0x8000;
const OPCODE = 0x7800;
const AUTHORITATIVE_ANSWER = 0x0400;
const TRUNCATED_RESPONSE = 0x0200;
const RECURSION_AVAILABLE = 0x0080;
const CHECKING_DISABLED = 0x0010;
const CLASS_IN = 1;
const OPT_BYTES = 11;
const MAX_ADDITIONAL = 2;
const MAX_POINTER = 0x3fff;
const TYPES = { A: 1, CNAME: 5, AAAA: 28, SRV: 33, OPT: 41 } as const;
const RCODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

export type DnsCode = keyof typeof RCODES;

/** The fixed part of a message. */
export interface DnsHeader {
  readonly id: number;
  readonly flags: number;
  readonly isResponse: boolean;
  /** 0 is a plain query. */
  readonly opcode: number;
  /** The low four bits of the code. */
  readonly rcode: number;
  readonly isTruncated: boolean;
  readonly questionCount: number;
  readonly answerCount: number;
  readonly authorityCount: number;
  readonly additionalCount: number;
}

/** What is asked. */
export interface DnsQuestion {
  readonly id: number;
  /** Lower case, without the last dot. */
  readonly name: string;
  /** `A`, `SRV`, ...; `UNKNOWN_n` for those without a name. */
  readonly type: string;
  readonly isInternet: boolean;
  /** The question section as it came: an answer repeats the asker's spelling. */
  readonly wire: Uint8Array;
  /** The largest answer the asker takes over UDP. */
  readonly udpBytes: number;
  /** The asker speaks EDNS, so the answer does. */
  readonly hasEdns: boolean;
  readonly flags: number;
}

export type DnsRecord =
  | { readonly type: 'A' | 'AAAA' | 'CNAME'; readonly name: string; readonly data: string }
  | {
      readonly type: 'SRV';
      readonly name: string;
      readonly data: { readonly target: string; readonly port: number };
    };

/** An authoritative answer. */
export interface DnsAnswer {
  readonly code: DnsCode;
  readonly records: readonly DnsRecord[];
  readonly ttlSec: number;
}

/** Reads the header; undefined when the message is shorter than one. */
export function readHeader(bytes: Buffer): DnsHeader | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const flags = bytes.readUInt16BE(2);
  return {
    id: bytes.readUInt16BE(0),
    flags,
    isResponse: (flags & RESPONSE) !== 0,
    opcode: (flags & OPCODE) >> 11,
    rcode: flags & 0xf,
    isTruncated: (flags & TRUNCATED_RESPONSE) !== 0,
    questionCount: bytes.readUInt16BE(4),
    answerCount: bytes.readUInt16BE(6),
    authorityCount: bytes.readUInt16BE(8),
    additionalCount: bytes.readUInt16BE(10),
  };
}

/** Whether a message is a query of one question, with at most EDNS and a signature behind it. */
export function isPlainQuery(header: DnsHeader): boolean {
  return (
    !header.isResponse &&
    header.opcode === 0 &&
    header.questionCount === 1 &&
    header.answerCount === 0 &&
    header.authorityCount === 0 &&
    header.additionalCount <= MAX_ADDITIONAL
  );
}

/** Decodes a plain query. Throws `MeshError('bad_dns')`. */
export function decodeQuestion(bytes: Buffer): DnsQuestion {
  const header = readHeader(bytes);
  // dns-packet would try to read as many records as the header claims: 2 ms for twelve bytes.
  if (header === undefined || !isPlainQuery(header)) {
    throw new MeshError('bad_dns', 'not a query with one question');
  }
  let packet;
  try {
    packet = decode(bytes);
  } catch (err) {
    throw new MeshError('bad_dns', 'not a DNS message', { cause: err });
  }
  const [question] = packet.questions ?? [];
  if (question === undefined) {
    throw new MeshError('bad_dns', 'not a query with one question');
  }
  const opt = packet.additionals?.find((record) => record.type === 'OPT');
  const offered = opt === undefined ? MIN_UDP_BYTES : opt.udpPayloadSize;
  return {
    id: header.id,
    name: question.name.toLowerCase().replace(/\.$/, ''),
    type: question.type,
    isInternet: question.class === undefined || question.class === 'IN',
    wire: bytes.subarray(HEADER_BYTES, questionEnd(bytes)),
    udpBytes: Math.min(Math.max(offered, MIN_UDP_BYTES), MAX_UDP_BYTES),
    hasEdns: opt !== undefined,
    flags: header.flags,
  };
}

/** Encodes an answer. Records that do not fit into `maxBytes` are left out and TC is set. */
export function encodeAnswer(question: DnsQuestion, answer: DnsAnswer, maxBytes: number): Buffer {
  const writer = new MessageWriter(question, maxBytes);
  let count = 0;
  for (const record of answer.records) {
    if (!writer.addRecord(record, answer.ttlSec)) break;
    count++;
  }
  const cut = count < answer.records.length ? TRUNCATED_RESPONSE : 0;
  return writer.finish(AUTHORITATIVE_ANSWER | cut | RCODES[answer.code], count);
}

/** The answer that there is none: id, opcode and question of the query with an error code. */
export function encodeFailure(query: Buffer, code: DnsCode): Buffer {
  const header = readHeader(query);
  if (header === undefined) throw new MeshError('bad_dns', 'not a DNS message');
  let end = HEADER_BYTES;
  if (header.questionCount === 1 && code !== 'FORMERR') {
    try {
      end = questionEnd(query);
    } catch {
      // A question that cannot be read is not repeated.
    }
  }
  const bytes = Buffer.alloc(end);
  query.copy(bytes, 0, 0, end);
  const kept = header.flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED);
  bytes.writeUInt16BE(RESPONSE | RECURSION_AVAILABLE | kept | RCODES[code], 2);
  bytes.writeUInt16BE(end === HEADER_BYTES ? 0 : 1, 4);
  bytes.fill(0, 6, HEADER_BYTES);
  return bytes;
}

/** Where the first question ends. A name in it cannot point anywhere, as nothing came before it. */
function questionEnd(bytes: Buffer): number {
  let at = HEADER_BYTES;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > 63) throw new MeshError('bad_dns', 'bad name in question');
    at += 1 + length;
    if (length === 0) break;
  }
  if (at - HEADER_BYTES > 255 || at + 4 > bytes.length) {
    throw new MeshError('bad_dns', 'bad question');
  }
  return at + 4;
}

/** One response: header, the question as asked, records with compressed names. */
class MessageWriter {
  readonly #question: DnsQuestion;
  readonly #bytes: Buffer;
  /** Where the rest of a name is written already. */
  readonly #names = new Map<string, number>();
  /** Room that the EDNS record needs at the end. */
  readonly #reserved: number;
  #at: number;

  constructor(question: DnsQuestion, maxBytes: number) {
    this.#question = question;
    this.#bytes = Buffer.allocUnsafe(maxBytes);
    this.#reserved = question.hasEdns ? OPT_BYTES : 0;
    this.#bytes.set(question.wire, HEADER_BYTES);
    this.#at = HEADER_BYTES + question.wire.length;
    this.#nameQuestion();
  }

  /** False, and nothing written, when it does not fit. */
  addRecord(record: DnsRecord, ttlSec: number): boolean {
    const start = this.#at;
    if (this.#writeRecord(record, ttlSec) && this.#at + this.#reserved <= this.#bytes.length) {
      return true;
    }
    this.#at = start;
    return false;
  }

  finish(flags: number, answerCount: number): Buffer {
    const { id, hasEdns, udpBytes, flags: asked } = this.#question;
    const kept = asked & (RECURSION_DESIRED | CHECKING_DISABLED);
    this.#bytes.writeUInt16BE(id, 0);
    this.#bytes.writeUInt16BE(RESPONSE | RECURSION_AVAILABLE | kept | flags, 2);
    this.#bytes.writeUInt16BE(1, 4);
    this.#bytes.writeUInt16BE(answerCount, 6);
    this.#bytes.writeUInt16BE(0, 8);
    this.#bytes.writeUInt16BE(hasEdns ? 1 : 0, 10);
    if (hasEdns) {
      this.#bytes.fill(0, this.#at, this.#at + OPT_BYTES);
      this.#bytes.writeUInt16BE(TYPES.OPT, this.#at + 1);
      this.#bytes.writeUInt16BE(udpBytes, this.#at + 3);
      this.#at += OPT_BYTES;
    }
    return Buffer.from(this.#bytes.subarray(0, this.#at));
  }

  #nameQuestion(): void {
    const labels = this.#question.name.split('.');
    let at = HEADER_BYTES;
    for (let i = 0; i < labels.length; i++) {
      this.#names.set(labels.slice(i).join('.'), at);
      const length = this.#bytes[at] ?? 0;
      // A label with a dot inside: only the whole name is sure.
      if (length !== Buffer.byteLength(labels[i] ?? '')) return;
      at += 1 + length;
    }
  }

  #writeRecord(record: DnsRecord, ttlSec: number): boolean {
    if (!this.#writeName(record.name)) return false;
    const lengthAt = this.#at + 8;
    if (lengthAt + 2 > this.#bytes.length) return false;
    this.#bytes.writeUInt16BE(TYPES[record.type], this.#at);
    this.#bytes.writeUInt16BE(CLASS_IN, this.#at + 2);
    this.#bytes.writeUInt32BE(ttlSec, this.#at + 4);
    this.#at = lengthAt + 2;
    if (!this.#writeData(record)) return false;
    this.#bytes.writeUInt16BE(this.#at - lengthAt - 2, lengthAt);
    return true;
  }

  #writeData(record: DnsRecord): boolean {
    if (record.type === 'CNAME') return this.#writeName(record.data);
    if (record.type === 'SRV') {
      if (this.#at + 6 > this.#bytes.length) return false;
      this.#bytes.fill(0, this.#at, this.#at + 4);
      this.#bytes.writeUInt16BE(record.data.port, this.#at + 4);
      this.#at += 6;
      return this.#writeName(record.data.target, false);
    }
    const address = parseIp(record.data);
    if (address?.length !== (record.type === 'A' ? 4 : 16)) {
      throw new MeshError('bad_dns', `${record.data} is no address for ${record.type}`);
    }
    if (this.#at + address.length > this.#bytes.length) return false;
    this.#bytes.set(address, this.#at);
    this.#at += address.length;
    return true;
  }

  /** Targets of SRV are written in full (RFC 2782). False when the name does not fit or cannot be written. */
  #writeName(name: string, isCompressed = true): boolean {
    let rest = name;
    while (rest !== '') {
      const known = isCompressed ? this.#names.get(rest) : undefined;
      if (known !== undefined) {
        if (this.#at + 2 > this.#bytes.length) return false;
        this.#bytes.writeUInt16BE(0xc000 | known, this.#at);
        this.#at += 2;
        return true;
      }
      const dot = rest.indexOf('.');
      const label = Buffer.from(dot < 0 ? rest : rest.slice(0, dot));
      if (label.length === 0 || label.length > 63) return false;
      if (this.#at + 1 + label.length > this.#bytes.length) return false;
      if (isCompressed && this.#at <= MAX_POINTER) this.#names.set(rest, this.#at);
      this.#bytes[this.#at] = label.length;
      this.#bytes.set(label, this.#at + 1);
      this.#at += 1 + label.length;
      rest = dot < 0 ? '' : rest.slice(dot + 1);
    }
    if (this.#at + 1 > this.#bytes.length) return false;
    this.#bytes[this.#at++] = 0;
    return true;
  }
}
