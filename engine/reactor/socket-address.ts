// IP addresses between text and sockaddr. IPv4-mapped IPv6 addresses are unmapped wherever they are read, so
// the rest of the project never sees them. Text of IPv6 is canonical (RFC 5952).
import { AF_INET, AF_INET6, inetNtop, inetPton } from '../native/libc.ts';
import { reserve, scratch } from '../native/memory.ts';
import { StreamError } from './stream-error.ts';

/** An IP address in canonical text, and a port. */
export interface SocketAddress {
  readonly address: string;
  readonly port: number;
}

// sockaddr_in6 is 28 bytes; the length word of accept and getsockname follows it.
const sockaddrOffset = reserve(32);
const lengthOffset = reserve(16);
const textOffset = reserve(64);

/** Address of the thread's one sockaddr, written by `writeSockaddr` or by the kernel. */
export const sockaddr: number = scratch.address + sockaddrOffset;
/** Address of its length word; `resetSockaddrLength` sets it before a call that fills the sockaddr. */
export const sockaddrLength: number = scratch.address + lengthOffset;

/** Announces the room for a sockaddr to the kernel. */
export function resetSockaddrLength(): void {
  scratch.view.setUint32(lengthOffset, 28, true);
}

/** 4 or 6; throws for anything that is not an IP address. */
export function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

/** Writes the sockaddr and returns its length. With `mapped`, IPv4 is written as ::ffff:a.b.c.d. */
export function writeSockaddr(address: string, port: number, mapped = false): number {
  const { view, bytes } = scratch;
  const isV6 = familyOf(address) === 6 || mapped;
  view.setUint16(sockaddrOffset, isV6 ? AF_INET6 : AF_INET, true);
  view.setUint16(sockaddrOffset + 2, port, false);
  bytes.fill(0, sockaddrOffset + 4, sockaddrOffset + 28);
  const text = mapped && !address.includes(':') ? `::ffff:${address}` : address;
  bytes.set(binaryOf(text, isV6), sockaddrOffset + (isV6 ? 8 : 4));
  return isV6 ? 28 : 16;
}

// A thread dials the same few addresses again and again.
const MAX_BINARY = 1024;
const binary = new Map<string, Uint8Array>();

function binaryOf(text: string, isV6: boolean): Uint8Array {
  const known = binary.get(text);
  if (known !== undefined) return known;
  if (inetPton(isV6 ? AF_INET6 : AF_INET, text, scratch.address + textOffset) !== 1) {
    throw new StreamError('io', `not an ip address: ${text}`);
  }
  const found = Uint8Array.from(scratch.bytes.subarray(textOffset, textOffset + (isV6 ? 16 : 4)));
  if (binary.size >= MAX_BINARY) binary.clear();
  binary.set(text, found);
  return found;
}

/** Reads the sockaddr the kernel has filled in. */
export function readSockaddr(): SocketAddress {
  const { view, bytes } = scratch;
  const family = view.getUint16(sockaddrOffset, true);
  const port = view.getUint16(sockaddrOffset + 2, false);
  if (family === AF_INET) return { address: dotted(bytes, sockaddrOffset + 4), port };
  if (family !== AF_INET6) return { address: '', port: 0 };
  const isMapped =
    view.getUint32(sockaddrOffset + 8, false) === 0 &&
    view.getUint32(sockaddrOffset + 12, false) === 0 &&
    view.getUint32(sockaddrOffset + 16, false) === 0xffff;
  if (isMapped) return { address: dotted(bytes, sockaddrOffset + 20), port };
  inetNtop(AF_INET6, sockaddr + 8, scratch.address + textOffset, 64);
  const end = bytes.indexOf(0, textOffset);
  return { address: bytes.toString('latin1', textOffset, end), port };
}

function dotted(bytes: Buffer, at: number): string {
  return `${bytes[at] ?? 0}.${bytes[at + 1] ?? 0}.${bytes[at + 2] ?? 0}.${bytes[at + 3] ?? 0}`;
}
