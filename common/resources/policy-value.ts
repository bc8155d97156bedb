// Values in AuthorizationPolicies: Istio's one-star patterns, address blocks and ports.
import { parseIp } from '../workload/ip.ts';

/** `x`, `x*`, `*x` or `*`. */
export type Pattern =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly text: string }
  | { readonly kind: 'presence' };

export interface AddressBlock {
  readonly address: Uint8Array;
  readonly length: number;
}

/** Reads Istio's pattern syntax; a star elsewhere is literal. */
export function parsePattern(text: string): Pattern {
  if (text === '*') return { kind: 'presence' };
  if (text.startsWith('*')) return { kind: 'suffix', text: text.slice(1) };
  if (text.endsWith('*')) return { kind: 'prefix', text: text.slice(0, -1) };
  return { kind: 'exact', text };
}

/** `10.0.0.0/8`, or an address alone for just that address. */
export function parseBlock(text: string): AddressBlock | undefined {
  const [ip = '', length, ...rest] = text.split('/');
  const address = parseIp(ip);
  if (address === undefined || rest.length > 0) return undefined;
  const max = address.length * 8;
  if (length === undefined) return { address, length: max };
  if (!/^\d{1,3}$/.test(length) || Number(length) > max) return undefined;
  return { address, length: Number(length) };
}

/** A port number in text. */
export function parsePort(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65535 ? port : undefined;
}

/** `ns/sa`, or `sa` in the policy's own namespace. */
export function parseServiceAccount(
  text: string,
  namespace: string,
): { readonly namespace: string; readonly serviceAccount: string } | undefined {
  const parts = text.split('/');
  const [first = '', second] = parts;
  if (parts.length > 2 || first === '' || second === '' || text.includes('*')) return undefined;
  return second === undefined
    ? { namespace, serviceAccount: first }
    : { namespace: first, serviceAccount: second };
}
