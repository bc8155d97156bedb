// String matches of routes and policies, compiled once. Regular expressions are RE2 (linear time, full match), so
// that no configuration can make a request slow; they are cached by text.
import { RE2JS } from 're2js';
import { MeshError, errorMessage } from '../errors.ts';
import type { NamedMatch, StringMatch } from './gen/l7_pb.ts';

/** A compiled match. */
export type StringPredicate = (value: string) => boolean;

const MAX_CACHED = 1000;
const cache = new Map<string, RE2JS>();

/** Compiles RE2 text; throws `bad_resource` with the engine's words. */
export function compileRegex(text: string, ignoreCase = false): RE2JS {
  const key = `${ignoreCase ? 'i' : 'c'}${text}`;
  const known = cache.get(key);
  if (known !== undefined) return known;
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(text, ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
  } catch (err) {
    throw new MeshError('bad_resource', `invalid regex "${text}": ${errorMessage(err)}`);
  }
  if (cache.size >= MAX_CACHED) cache.clear();
  cache.set(key, regex);
  return regex;
}

/** Compiles a match on a present value. `present` wants text that is not empty only where `nonEmpty` is set. */
export function compileStringMatch(match: StringMatch, nonEmpty = false): StringPredicate {
  const { kind, ignoreCase } = match;
  const fold = (text: string): string => (ignoreCase ? text.toLowerCase() : text);
  switch (kind.case) {
    case 'exact': {
      const wanted = fold(kind.value);
      return ignoreCase ? (value) => value.toLowerCase() === wanted : (value) => value === wanted;
    }
    case 'prefix':
      if (match.pathSegments) return segmentPrefix(fold(kind.value), fold);
      return startsWith(fold(kind.value), ignoreCase);
    case 'suffix': {
      const wanted = fold(kind.value);
      return (value) => fold(value).endsWith(wanted);
    }
    case 'regex': {
      const regex = compileRegex(kind.value, ignoreCase);
      return (value) => regex.matches(value);
    }
    case 'present':
    case undefined:
      return nonEmpty ? (value) => value !== '' : () => true;
  }
}

function startsWith(wanted: string, ignoreCase: boolean): StringPredicate {
  return ignoreCase
    ? (value) => value.toLowerCase().startsWith(wanted)
    : (value) => value.startsWith(wanted);
}

/** `/foo` matches `/foo`, `/foo/` and `/foo/bar`, not `/foobar`; a trailing slash of the prefix is ignored. */
function segmentPrefix(prefix: string, fold: (text: string) => string): StringPredicate {
  const wanted = prefix.endsWith('/') ? prefix.slice(0, -1) : prefix;
  return (value) => {
    const path = fold(value);
    if (!path.startsWith(wanted)) return false;
    return path.length === wanted.length || path.charCodeAt(wanted.length) === SLASH;
  };
}

const SLASH = 47;

/** A compiled header or query match; `undefined` stands for an absent name. */
export interface NamedPredicate {
  readonly name: string;
  matches(value: string | undefined): boolean;
}

/** Compiles a match by name. An inverted match holds for an absent name unless it asks for presence. */
export function compileNamedMatch(match: NamedMatch): NamedPredicate {
  const { name, invert, value: wanted } = match;
  if (wanted === undefined || wanted.kind.case === 'present') {
    return { name, matches: (value) => (value !== undefined) !== invert };
  }
  const predicate = compileStringMatch(wanted);
  return {
    name,
    // An absent header counts as empty when the match is inverted (Istio's withoutHeaders).
    matches: (value) =>
      invert ? !predicate(value ?? '') : value !== undefined && predicate(value),
  };
}
