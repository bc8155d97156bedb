// A request as routes and policies see it: pseudo headers apart, other headers as name and value in wire order.
// Also the path normalisation that comes before both (RFC 3986 section 6.2.2, Istio's default BASE).

/** A header; names are lower case. */
export type Header = readonly [name: string, value: string];

/** What is matched on. `path` has the query; headers have no pseudo headers. */
export interface RequestView {
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly headers: readonly Header[];
}

/** All values of a header, joined with a comma; undefined when absent. */
export function joinedHeader(headers: readonly Header[], name: string): string | undefined {
  let found: string | undefined;
  for (const header of headers) {
    if (header[0] === name) found = found === undefined ? header[1] : `${found},${header[1]}`;
  }
  return found;
}

/** The path without query and fragment. */
export function pathOf(path: string): string {
  const end = path.indexOf('?');
  return end < 0 ? path : path.slice(0, end);
}

/** First value of a query parameter, decoded; undefined when absent. */
export function queryParameter(path: string, name: string): string | undefined {
  const start = path.indexOf('?');
  if (start < 0) return undefined;
  for (const pair of path.slice(start + 1).split('&')) {
    const at = pair.indexOf('=');
    const key = at < 0 ? pair : pair.slice(0, at);
    if (key === name || decode(key) === name) return at < 0 ? '' : decode(pair.slice(at + 1));
  }
  return undefined;
}

function decode(text: string): string {
  if (!/[%+]/.test(text)) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text; // not valid percent-encoding: compared as it is
  }
}

const NEEDS_NORMALIZING = /%|\\|\/\.{1,2}(\/|$)/;

/**
 * Normalises a path so that policy and upstream see the same: unreserved characters decoded, backslashes turned,
 * dot segments removed. Undefined when the result would leave the root or the path is not valid.
 */
export function normalizePath(full: string): string | undefined {
  const path = pathOf(full);
  if (!path.startsWith('/')) return path === '*' ? full : undefined;
  if (!NEEDS_NORMALIZING.test(path)) return full;
  if (path.includes('\u0000') || path.includes('%00')) return undefined;
  const decoded = path
    .replace(/%([0-9a-fA-F]{2})/g, (triple, hex: string) => {
      const char = String.fromCharCode(Number.parseInt(hex, 16));
      return /[A-Za-z0-9\-._~]/.test(char) ? char : triple.toUpperCase();
    })
    .replaceAll('\\', '/');
  const kept: string[] = [];
  const segments = decoded.split('/').slice(1);
  for (const [at, segment] of segments.entries()) {
    const isLast = at === segments.length - 1;
    if (segment === '..') {
      if (kept.pop() === undefined) return undefined;
      if (isLast) kept.push('');
    } else if (segment === '.') {
      if (isLast) kept.push('');
    } else kept.push(segment);
  }
  return `/${kept.join('/')}${full.slice(path.length)}`;
}
