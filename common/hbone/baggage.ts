// The `baggage` and `forwarded` headers of HBONE as Istio writes them: who sends, and for whom. No escaping, as in
// Istio; what does not fit the form is ignored when reading.
import type { HeaderList } from '../../engine/http2/types.ts';

/** What baggage says about a workload. Empty or missing parts are not sent. */
export interface Baggage {
  readonly clusterId?: string;
  readonly namespace?: string;
  /** deployment, cronjob, pod or job */
  readonly workloadType?: string;
  readonly workloadName?: string;
  readonly canonicalName?: string;
  readonly canonicalRevision?: string;
  readonly region?: string;
  readonly zone?: string;
}

const WORKLOAD_TYPES: readonly string[] = ['deployment', 'cronjob', 'pod', 'job'];
const VISIBLE_ASCII = /^[\t\x20-\x7e]*$/;

/** Value of the `baggage` header, or '' if nothing is known. */
export function encodeBaggage(baggage: Baggage): string {
  const type = baggage.workloadType ?? 'pod';
  const parts: (readonly [string, string | undefined])[] = [
    ['k8s.cluster.name', baggage.clusterId],
    ['k8s.namespace.name', baggage.namespace],
    [`k8s.${type}.name`, baggage.workloadName],
    ['service.name', baggage.canonicalName],
    ['service.version', baggage.canonicalRevision],
    ['cloud.region', baggage.region],
    ['cloud.availability_zone', baggage.zone],
  ];
  return parts
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => `${name}=${value ?? ''}`)
    .join(',');
}

/** Reads all `baggage` headers; later keys override. A value that is not visible ASCII empties the whole. */
export function decodeBaggage(headers: HeaderList): Baggage {
  const found: Record<string, string> = {};
  for (const [name, value] of headers) {
    if (name !== 'baggage') continue;
    if (!VISIBLE_ASCII.test(value)) return {};
    for (const part of value.split(',')) {
      const [key = '', text = ''] = part.split('=');
      if (text !== '') found[key] = text;
    }
  }
  const type = WORKLOAD_TYPES.findLast((name) => found[`k8s.${name}.name`] !== undefined);
  const fields: [keyof Baggage, string | undefined][] = [
    ['clusterId', found['k8s.cluster.name']],
    ['namespace', found['k8s.namespace.name']],
    ['workloadType', type],
    ['workloadName', type === undefined ? undefined : found[`k8s.${type}.name`]],
    ['canonicalName', found['service.name']],
    ['canonicalRevision', found['service.version']],
    ['region', found['cloud.region']],
    ['zone', found['cloud.availability_zone']],
  ];
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined));
}

/** What `forwarded` says: the source's address, and the service it dialled. */
export interface Forwarded {
  readonly address: string;
  readonly port: number;
  readonly host?: string;
}

/** Value of the `forwarded` header (RFC 7239). */
export function encodeForwarded(forwarded: Forwarded): string {
  const { address, port, host } = forwarded;
  const node = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  return host === undefined ? `for="${node}"` : `for="${node}";host=${host}`;
}

/** The `host=` of the first `forwarded` header that has one. */
export function decodeForwardedHost(headers: HeaderList): string | undefined {
  const value = headers.find(([name]) => name === 'forwarded')?.[1];
  if (value === undefined || !VISIBLE_ASCII.test(value)) return undefined;
  const part = value
    .split(';')
    .map((text) => text.trim())
    .find((text) => text.startsWith('host='));
  const host = part?.slice('host='.length).replaceAll('"', '');
  return host === undefined || host === '' ? undefined : host;
}
