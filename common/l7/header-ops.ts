// Header operations of routes, and rewrites and redirects of paths. Pure: new lists and texts come out.
import type { HeaderOps, Redirect, Rewrite, RouteMatch } from './gen/l7_pb.ts';
import type { Header } from './request.ts';
import { pathOf } from './request.ts';
import { compileRegex } from './string-match.ts';

/** Applies remove, set and add, in this order. Pseudo headers are not touched; see {@link authorityFromOps}. */
export function applyHeaderOps(headers: readonly Header[], ops: HeaderOps | undefined): Header[] {
  if (ops === undefined) return [...headers];
  const gone = new Set(ops.remove.map((name) => name.toLowerCase()));
  for (const { name } of ops.set) gone.add(name.toLowerCase());
  const kept = gone.size === 0 ? [...headers] : headers.filter(([name]) => !gone.has(name));
  for (const { name, value } of [...ops.set, ...ops.add]) {
    const lower = name.toLowerCase();
    if (isSettable(lower)) kept.push([lower, value]);
  }
  return kept;
}

/** Setting `host` or `:authority` rewrites the authority instead of a header. */
export function authorityFromOps(ops: HeaderOps | undefined): string | undefined {
  return ops?.set.find(({ name }) => /^(:authority|host)$/i.test(name))?.value;
}

const NOT_SETTABLE = new Set([
  'host',
  'connection',
  'transfer-encoding',
  'content-length',
  'upgrade',
  'keep-alive',
]);

/** Framing belongs to the codecs: a route that sets it would break the message. */
function isSettable(name: string): boolean {
  return !name.startsWith(':') && !NOT_SETTABLE.has(name);
}

/** Whether an operation list has any effect. */
export function hasOps(ops: HeaderOps | undefined): boolean {
  return ops !== undefined && ops.set.length + ops.add.length + ops.remove.length > 0;
}

/** The path to send upstream. `matched` is the match that chose the route: its prefix is what is replaced. */
export function rewritePath(
  path: string,
  rewrite: Rewrite | undefined,
  matched: RouteMatch | undefined,
): string {
  if (rewrite === undefined) return path;
  const query = path.slice(pathOf(path).length);
  if (rewrite.regex !== '') {
    const replaced = compileRegex(rewrite.regex)
      .matcher(pathOf(path))
      .replaceAll(substitutionOf(rewrite.substitution));
    return replaced + query;
  }
  if (rewrite.pathFull !== undefined) return rewrite.pathFull + query;
  if (rewrite.pathPrefix !== undefined) return replacePrefix(path, rewrite.pathPrefix, matched);
  return path;
}

/** RE2's `\1` and `\\` are RE2JS's `$1` and `\`; a plain `$` is `$$` there. */
function substitutionOf(text: string): string {
  return text.replace(/\\(\d)|\\\\|\$/g, (found, digit: string | undefined) => {
    if (digit !== undefined) return `$${digit}`;
    return found === '$' ? '$$' : '\\';
  });
}

function replacePrefix(path: string, prefix: string, matched: RouteMatch | undefined): string {
  const kind = matched?.path?.kind;
  const own = pathOf(path);
  const query = path.slice(own.length);
  if (kind?.case === undefined) return joinPaths(prefix, own === '/' ? '' : own) + query;
  if (kind.case !== 'prefix') return prefix + query;
  const rest = own.slice(kind.value.length);
  if (matched?.path?.pathSegments === true) return joinPaths(prefix, rest) + query;
  return `${prefix}${rest}${query}` || '/';
}

/** Gateway API: one slash between the new prefix and the rest. */
function joinPaths(prefix: string, rest: string): string {
  const head = prefix.endsWith('/') ? prefix.slice(0, -1) : prefix;
  if (rest === '') return prefix === '' ? '/' : prefix;
  return rest.startsWith('/') ? head + rest : `${head}/${rest}`;
}

/** Where a redirect leads: the `location` value. Ports that are the scheme's own are left out. */
export function redirectLocation(
  redirect: Redirect,
  request: { readonly scheme: string; readonly authority: string; readonly path: string },
  matched: RouteMatch | undefined,
): string {
  const scheme = redirect.scheme ?? request.scheme;
  const [host, ownPort] = splitAuthority(redirect.authority ?? request.authority);
  const port = redirect.port ?? (redirect.scheme === undefined ? ownPort : undefined);
  const isDefault =
    port === undefined ||
    (scheme === 'http' && port === 80) ||
    (scheme === 'https' && port === 443);
  const query = request.path.slice(pathOf(request.path).length);
  let path = request.path;
  if (redirect.pathFull !== undefined) path = redirect.pathFull + query;
  else if (redirect.pathPrefix !== undefined) {
    path = replacePrefix(request.path, redirect.pathPrefix, matched);
  }
  return `${scheme}://${host}${isDefault ? '' : `:${port}`}${path}`;
}

function splitAuthority(authority: string): [string, number | undefined] {
  const match = /^(.*?)(?::(\d+))?$/.exec(authority);
  const port = match?.[2];
  return [match?.[1] ?? authority, port === undefined ? undefined : Number(port)];
}
