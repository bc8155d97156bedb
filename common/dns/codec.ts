// DNS messages on the wire (RFC 1035) by dns-packet: questions in, answers out, for cluster DNS and the proxy's
// DNS. Answers over UDP that do not fit are cut and flagged, since dns-packet does not compress names.
import {
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
} from 'dns-packet';
import { MeshError } from '../errors.ts';

const MIN_UDP_BYTES = 512;
const MAX_UDP_BYTES = 4096;

/** What is asked; the name is lower case without the last dot. */
export interface DnsQuestion {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  /** The largest answer the asker takes over UDP. */
  readonly udpBytes: number;
  readonly flags: number;
}

export type DnsRecord =
  | { readonly type: 'A' | 'AAAA' | 'CNAME'; readonly name: string; readonly data: string }
  | {
      readonly type: 'SRV';
      readonly name: string;
      readonly data: { readonly target: string; readonly port: number };
    };

export interface DnsAnswer {
  readonly code: 'NOERROR' | 'NXDOMAIN' | 'SERVFAIL' | 'NOTIMP';
  readonly records: readonly DnsRecord[];
  readonly ttlSec: number;
}

const RCODES = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4 } as const;

/** Decodes a query with exactly one question. */
export function decodeQuestion(bytes: Buffer): DnsQuestion {
  let packet;
  try {
    packet = decode(bytes);
  } catch (err) {
    throw new MeshError('bad_dns', 'not a DNS message', { cause: err });
  }
  const [question] = packet.questions ?? [];
  if (packet.type !== 'query' || question === undefined || packet.questions?.length !== 1) {
    throw new MeshError('bad_dns', 'not a query with one question');
  }
  const opt = packet.additionals?.find((record) => record.type === 'OPT');
  const offered = opt === undefined ? MIN_UDP_BYTES : opt.udpPayloadSize;
  return {
    id: packet.id ?? 0,
    name: question.name.toLowerCase().replace(/\.$/, ''),
    type: question.type,
    udpBytes: Math.min(Math.max(offered, MIN_UDP_BYTES), MAX_UDP_BYTES),
    flags: packet.flags ?? 0,
  };
}

/** Encodes an answer; more than `maxBytes` drops the records and sets TC. */
export function encodeAnswer(question: DnsQuestion, answer: DnsAnswer, maxBytes: number): Buffer {
  const build = (records: readonly DnsRecord[], extraFlags: number): Buffer =>
    encode({
      type: 'response',
      id: question.id,
      flags:
        (question.flags & RECURSION_DESIRED) |
        RECURSION_AVAILABLE |
        AUTHORITATIVE_ANSWER |
        extraFlags |
        RCODES[answer.code],
      // The type is what the asker sent, which dns-packet has itself decoded.
      questions: [{ name: question.name, type: question.type as 'A', class: 'IN' }],
      answers: records.map((record) => ({ ...record, ttl: answer.ttlSec, class: 'IN' })),
    });
  const whole = build(answer.records, 0);
  return whole.length <= maxBytes ? whole : build([], TRUNCATED_RESPONSE);
}
