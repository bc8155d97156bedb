// Host names in Istio's resources: short names, wildcards, and which services they stand for.

const LABEL = /^[a-z0-9]([-a-z0-9_]*[a-z0-9])?$/i;
const MAX_HOST_LENGTH = 255;

/** A short name (no dot) is a service of the namespace; anything else is taken as it is, in lower case. */
export function resolveHost(host: string, namespace: string, domain: string): string {
  const lower = host.toLowerCase();
  if (lower === '*' || lower.includes('.') || lower === '') return lower;
  return serviceHost(lower, namespace, domain);
}

/** `<name>.<namespace>.svc.<domain>` */
export function serviceHost(name: string, namespace: string, domain: string): string {
  return `${name}.${namespace}.svc.${domain}`;
}

/** True when a resolved host, perhaps a `*.suffix`, covers the host name. */
export function hostMatches(pattern: string, hostname: string): boolean {
  if (pattern === hostname || pattern === '*') return true;
  return pattern.startsWith('*.') && hostname.endsWith(pattern.slice(1));
}

/** True for an FQDN or short name, `*`, or `*.suffix`. */
export function isValidHost(host: string): boolean {
  if (host === '*') return true;
  if (host.length === 0 || host.length > MAX_HOST_LENGTH) return false;
  const name = host.startsWith('*.') ? host.slice(2) : host;
  const labels = (name.endsWith('.') ? name.slice(0, -1) : name).split('.');
  return labels.every((label) => label.length <= 63 && LABEL.test(label));
}
