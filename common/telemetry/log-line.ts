// A log line as text, as Istio's ztunnel writes it and tools read it: time, level, scope, message and
// `key=value` fields, separated by tabs. What a peer sent cannot break out of its quotes.

/** The parts of a line besides its time. Undefined fields are left out. */
export interface LogLine {
  readonly level: string;
  readonly scope: string;
  readonly message: string;
  readonly fields: object;
}

/** One line, without the end of line. */
export function formatTextLine(line: LogLine, nowMs: number): string {
  const { level, scope, message, fields } = line;
  let text = `${formatTime(nowMs)}\t${level}\t${scope}\t${message}\t`;
  let separator = '';
  for (const [key, value] of Object.entries(fields) as [string, unknown][]) {
    if (value === undefined) continue;
    text += `${separator}${key}=${textValue(key, value)}`;
    separator = ' ';
  }
  return text;
}

function textValue(key: string, value: unknown): string {
  // Addresses are written bare; one with anything else in it is not an address.
  if (typeof value === 'string' && key.endsWith('addr') && /^[\w.:[\]-]+$/.test(value))
    return value;
  return quotedValue(value);
}

// What JSON.stringify would escape. Most texts have nothing of it.
const NEEDS_ESCAPE = /["\\\u0000-\u001f\u007f-\uffff]/;

function quotedValue(value: unknown): string {
  if (typeof value === 'string')
    return NEEDS_ESCAPE.test(value) ? JSON.stringify(value) : `"${value}"`;
  return typeof value === 'number' || typeof value === 'bigint'
    ? String(value)
    : JSON.stringify(value);
}

// Most lines of a busy proxy are of the same second.
let second = 0;
let secondText = '';

/** RFC 3339 with microseconds, as ztunnel writes it; our clock has milliseconds. */
export function formatTime(nowMs: number): string {
  const at = Math.floor(nowMs / 1000);
  if (at !== second) {
    second = at;
    secondText = new Date(at * 1000).toISOString().slice(0, 20);
  }
  const ms = Math.floor(nowMs) - at * 1000;
  return `${secondText}${String(ms).padStart(3, '0')}000Z`;
}
