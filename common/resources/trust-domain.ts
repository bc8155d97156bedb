// Which peers a policy's principal means in a mesh whose trust domain has others for aliases: Istio's rule for a
// migration from one trust domain to another. Pure.
import { parsePattern } from './policy-value.ts';

/** A policy written for this trust domain means the mesh's own, whatever that is called. */
const LOCAL_TRUST_DOMAIN = 'cluster.local';

/**
 * A principal `<trust domain>/ns/<namespace>/sa/<account>` (wildcards allowed) for each of the mesh's trust domains, the
 * first of which is its own. One that names none of them, or whatever trust domain there is, stays as it is.
 */
export function expandPrincipal(principal: string, trustDomains: readonly string[]): string[] {
  const slash = principal.indexOf('/');
  const written = principal.slice(0, slash);
  if (slash < 0 || written === '*') return [principal];
  const isMeant = (domain: string): boolean => matches(written, domain);
  if (written !== LOCAL_TRUST_DOMAIN && !trustDomains.some(isMeant)) return [principal];
  const rest = principal.slice(slash);
  // A pattern that matches a trust domain already stands for it.
  return [...new Set(trustDomains.map((domain) => (isMeant(domain) ? written : domain) + rest))];
}

function matches(written: string, domain: string): boolean {
  const pattern = parsePattern(written);
  return pattern.kind === 'suffix' ? domain.endsWith(pattern.text) : written === domain;
}
