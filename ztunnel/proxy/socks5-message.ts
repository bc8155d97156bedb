// SOCKS5 (RFC 1928) as far as Istio's ztunnel speaks it: no authentication, CONNECT, addresses and names. Pure.
import { normalizeIp } from '../../common/workload/ip.ts';

/** Reply codes; RFC 1928 section 6. */
export const SOCKS5_FAILURE = 1;
export const SOCKS5_HOST_UNREACHABLE = 4;
const COMMAND_NOT_SUPPORTED = 7;
const VERSION = 5;
const CONNECT = 1;
const NO_AUTHENTICATION = 0;
const TYPE_IPV4 = 1;
const TYPE_NAME = 3;
const TYPE_IPV6 = 4;

/** What the client wants; `length` bytes of the input were the request. */
export interface Socks5Request {
  readonly host: string;
  readonly isName: boolean;
  readonly port: number;
  readonly length: number;
}

/** Undefined: more bytes are needed. */
export type Socks5Result<T> = T | { readonly refusal: number } | undefined;

/** Reads the greeting; its length. */
export function readGreeting(bytes: Buffer): Socks5Result<{ readonly length: number }> {
  const [version, count] = bytes;
  if (version !== undefined && version !== VERSION) return { refusal: COMMAND_NOT_SUPPORTED };
  if (count === undefined || bytes.length < 2 + count) return undefined;
  const length = 2 + count;
  const isUsable = bytes.subarray(2, length).includes(NO_AUTHENTICATION);
  return isUsable ? { length } : { refusal: COMMAND_NOT_SUPPORTED };
}

/** Reads the request. */
export function readRequest(bytes: Buffer): Socks5Result<Socks5Request> {
  const [version, command, , type, first] = bytes;
  if (version !== undefined && version !== VERSION) return { refusal: COMMAND_NOT_SUPPORTED };
  if (command !== undefined && command !== CONNECT) return { refusal: COMMAND_NOT_SUPPORTED };
  if (type === undefined) return undefined;
  if (type !== TYPE_IPV4 && type !== TYPE_IPV6 && type !== TYPE_NAME) {
    return { refusal: COMMAND_NOT_SUPPORTED };
  }
  if (first === undefined) return undefined;
  const start = type === TYPE_NAME ? 5 : 4;
  const size = type === TYPE_NAME ? first : type === TYPE_IPV4 ? 4 : 16;
  const end = start + size;
  if (bytes.length < end + 2) return undefined;
  const address = bytes.subarray(start, end);
  const port = bytes.readUInt16BE(end);
  const host = type === TYPE_NAME ? address.toString('latin1') : addressText(address);
  if (host === '' || port === 0) return { refusal: SOCKS5_FAILURE };
  return { host, isName: type === TYPE_NAME, port, length: end + 2 };
}

/** The answer to a request; 0 is success. */
export function encodeReply(code: number): Buffer {
  return Buffer.from([VERSION, code, 0, TYPE_IPV4, 0, 0, 0, 0, 0, 0]);
}

/** The answer to a greeting. */
export const GREETING_REPLY = Buffer.from([VERSION, NO_AUTHENTICATION]);

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const words = Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(at * 2).toString(16));
  return normalizeIp(words.join(':')) ?? '';
}
