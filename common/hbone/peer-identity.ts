// Which of a certificate's URI SANs are SPIFFE identities of Istio's form, spiffe://TD/ns/NS/sa/SA.

const SCHEME = 'spiffe://';
/** Longer ones are none: SPIFFE-ID section 2.3 lets nobody make them. */
const MAX_LENGTH = 2048;

/** True for `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; parts may be empty, as in Istio. */
export function isWorkloadIdentity(uri: string): boolean {
  if (!uri.startsWith(SCHEME) || uri.length > MAX_LENGTH) return false;
  const parts = uri.slice(SCHEME.length).split('/');
  return parts.length === 5 && parts[1] === 'ns' && parts[3] === 'sa';
}

/** The peer's identity for policy and logs: its first SAN that is one. */
export function firstIdentity(uriSans: readonly string[]): string | undefined {
  return uriSans.find(isWorkloadIdentity);
}

/** Trust domain of an identity, or undefined if it is none. */
export function trustDomainOf(uri: string): string | undefined {
  return isWorkloadIdentity(uri) ? uri.slice(SCHEME.length).split('/')[0] : undefined;
}

/** Server side: some identity of the peer is in one of these. Undefined accepts, else the reason. */
export function verifyTrustDomain(
  trustDomains: readonly string[],
  uriSans: readonly string[],
): string | undefined {
  if (uriSans.some((uri) => trustDomains.includes(trustDomainOf(uri) ?? ''))) return undefined;
  return `no identity of trust domain ${trustDomains.join(' or ')}`;
}

/** Client side: some identity of the peer is expected. An empty list accepts nobody. */
export function verifyExpected(
  expected: readonly string[],
  uriSans: readonly string[],
): string | undefined {
  if (uriSans.some((uri) => isWorkloadIdentity(uri) && expected.includes(uri))) return undefined;
  return `identity is ${firstIdentity(uriSans) ?? 'unknown'}, expected ${expected.join(' or ') || 'none'}`;
}
