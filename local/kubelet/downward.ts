// The downward API: pod fields and resources as text, for environment variables and volumes. Pure.
import type { Container, Pod } from './objects.ts';

export interface PodAddresses {
  readonly podIps: readonly string[];
  readonly hostIp: string;
}

function mapText(map: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(map ?? {})
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

/** The value of a `fieldRef`; undefined for a path Kubernetes does not know either. */
export function fieldValue(pod: Pod, path: string, addresses: PodAddresses): string | undefined {
  const indexed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (indexed !== null) {
    const map = indexed[1] === 'labels' ? pod.metadata.labels : pod.metadata.annotations;
    return map?.[indexed[2] ?? ''] ?? '';
  }
  switch (path) {
    case 'metadata.name':
      return pod.metadata.name;
    case 'metadata.namespace':
      return pod.metadata.namespace ?? '';
    case 'metadata.uid':
      return pod.metadata.uid ?? '';
    case 'metadata.labels':
      return mapText(pod.metadata.labels);
    case 'metadata.annotations':
      return mapText(pod.metadata.annotations);
    case 'spec.nodeName':
      return pod.spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? 'default';
    case 'status.podIP':
      return addresses.podIps[0] ?? '';
    case 'status.podIPs':
      return addresses.podIps.join(',');
    case 'status.hostIP':
    case 'status.hostIPs':
      return addresses.hostIp;
    default:
      return undefined;
  }
}

const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1,
  m: 0.001,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** A Kubernetes quantity such as `500m` or `128Mi` as a number. */
export function quantityValue(text: string): number {
  const [, number = '0', suffix = ''] = /^([\d.]+)([A-Za-z]*)$/.exec(text) ?? [];
  return Number(number) * (SUFFIXES[suffix] ?? 1);
}

/** The value of a `resourceFieldRef` such as `limits.cpu`, in units of the divisor, rounded up. */
export function resourceValue(container: Container, resource: string, divisor = '1'): string {
  const [kind = '', name = ''] = resource.split('.');
  const from = kind === 'limits' ? container.resources?.limits : container.resources?.requests;
  const unit = quantityValue(divisor) || 1;
  return String(Math.ceil(quantityValue(from?.[name] ?? '1') / unit));
}
