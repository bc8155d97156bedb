// IP addresses as canonical text: dotted IPv4, RFC 5952 IPv6, IPv4-mapped IPv6 unmapped. Text is what sockets,
// logs and map keys use; CIDR tests work on the bytes.
import { isIP } from 'node:net';

const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;

/** 4 or 16 bytes to text; undefined for any other length. */
export function formatIp(bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return undefined;
  if (isMapped(bytes)) return bytes.subarray(12).join('.');
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0));
  return formatGroups(groups);
}

/** Text to bytes (4 or 16); undefined when it is not an address. Zones (`%eth0`) are not accepted. */
export function parseIp(text: string): Uint8Array | undefined {
  const dotted = parseIpv4(text);
  if (dotted !== undefined) return dotted;
  const family = isIP(text);
  if (family !== 6 || text.includes('%')) return undefined;
  const bytes = parseIpv6(text);
  return isMapped(bytes) ? bytes.slice(12) : bytes;
}

/** The canonical form of an address text, or undefined. */
export function normalizeIp(text: string): string | undefined {
  const bytes = parseIp(text);
  return bytes === undefined ? undefined : formatIp(bytes);
}

/** True for 127.0.0.0/8 and ::1 (canonical text). */
export function isLoopback(ip: string): boolean {
  return ip.startsWith('127.') || ip === '::1';
}

/** True for IPv6 text. */
export function isIpv6(ip: string): boolean {
  return ip.includes(':');
}

/** `10.0.0.1:80` or `[fd00::1]:80`. */
export function joinHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Splits `host:port` or `[v6]:port`; undefined when there is no port from 1 to 65535 or no host. */
export function splitHostPort(text: string): { host: string; port: number } | undefined {
  const found = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (found === null) return undefined;
  const port = Number(found[3]);
  const host = found[1] ?? found[2] ?? '';
  if (port < 1 || port > 65535 || host === '') return undefined;
  return { host, port };
}

/** Whether the first `length` bits of both are equal; different families never match. */
export function matchesPrefix(address: Uint8Array, prefix: Uint8Array, length: number): boolean {
  if (address.length !== prefix.length || length > prefix.length * 8) return false;
  const whole = length >> 3;
  for (let at = 0; at < whole; at++) if (address[at] !== prefix[at]) return false;
  const rest = length & 7;
  if (rest === 0) return true;
  const mask = 0xff << (8 - rest);
  return ((address[whole] ?? 0) & mask) === ((prefix[whole] ?? 0) & mask);
}

// Each connection's addresses pass here, hence by hand: a split and four conversions cost ten times as much.
function parseIpv4(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let at = 0;
  let value = 0;
  let digits = 0;
  for (let i = 0; i <= text.length; i++) {
    const code = i === text.length ? DOT : text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0 || value > 255 || at > 3) return undefined;
      bytes[at++] = value;
      value = digits = 0;
    } else {
      // No leading zeros: some read them as octal.
      if (code < ZERO || code > NINE || (digits > 0 && value === 0) || ++digits > 3) {
        return undefined;
      }
      value = value * 10 + code - ZERO;
    }
  }
  return at === 4 ? bytes : undefined;
}

function isMapped(bytes: Uint8Array): boolean {
  if (bytes[10] !== 0xff || bytes[11] !== 0xff) return false;
  return bytes.subarray(0, 10).every((byte) => byte === 0);
}

function parseIpv6(text: string): Uint8Array {
  const [left = '', right] = text.split('::');
  const head = parseGroups(left);
  const tail = right === undefined ? [] : parseGroups(right);
  const gap = new Array<number>(Math.max(0, 16 - head.length - tail.length)).fill(0);
  return Uint8Array.from([...head, ...gap, ...tail]);
}

function parseGroups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number);
    const value = parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function formatGroups(groups: readonly number[]): string {
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.start < 0) return hex.join(':');
  return `${hex.slice(0, best.start).join(':')}::${hex.slice(best.start + best.length).join(':')}`;
}
