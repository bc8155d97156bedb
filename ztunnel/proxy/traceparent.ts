// The id of an application's connection, which both ends of its tunnel log: W3C's `traceparent`, never sampled.
// An id for correlation, not a secret.
import type { HeaderList } from '../../engine/http2/types.ts';

const HEADER = 'traceparent';
const LENGTH = 55;
const FORM = /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/i;
const TRACE_ID = { start: 3, end: 35 };

/** A new one; the cheap source of randomness is enough. */
export function newTraceparent(): string {
  return `00-${hex8()}${hex8()}${hex8()}${hex8()}-${hex8()}${hex8()}-00`;
}

/** What the peer sent, or a new one where that is none. */
export function readTraceparent(headers: HeaderList): string {
  const sent = headers.find(([name]) => name === HEADER)?.[1];
  return sent?.length === LENGTH && FORM.test(sent) ? sent : newTraceparent();
}

/** The part that is logged: 32 hexadecimal digits. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(TRACE_ID.start, TRACE_ID.end).toLowerCase();
}

// Formatting a number above 2^31 in base 16 goes through floating point: 3 % of a connection's CPU, measured.
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

function hex8(): string {
  const word = (Math.random() * 0x1_0000_0000) | 0;
  const high = (HEX[word >>> 24] ?? '') + (HEX[(word >> 16) & 0xff] ?? '');
  return high + (HEX[(word >> 8) & 0xff] ?? '') + (HEX[word & 0xff] ?? '');
}
