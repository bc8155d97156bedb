// The headers of a CONNECT: baggage (who calls), forwarded (on whose behalf), traceparent (ztunnel-spec 3.3).
// Also reads what a peer sent; nothing a peer sends here is trusted for policy, only used for labels.
import { randomBytes } from 'node:crypto';
import type { HeaderList } from '../../engine/http2/types.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import type { Workload } from '../../common/workload/model.ts';

/** What baggage tells about a workload; empty fields are undefined. */
export interface Baggage {
  readonly clusterId: string | undefined;
  readonly namespace: string | undefined;
  readonly workloadName: string | undefined;
  readonly serviceName: string | undefined;
  readonly revision: string | undefined;
  readonly region: string | undefined;
  readonly zone: string | undefined;
}

/** The baggage value of a workload. */
export function buildBaggage(workload: Workload): string {
  const parts: ReadonlyArray<readonly [string, string]> = [
    ['k8s.cluster.name', workload.clusterId],
    ['k8s.namespace.name', workload.namespace],
    [`k8s.${workload.workloadType}.name`, workload.workloadName],
    ['service.name', workload.canonicalName],
    ['service.version', workload.canonicalRevision],
    ['cloud.region', workload.locality.region],
    ['cloud.availability_zone', workload.locality.zone],
  ];
  return parts
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

/** The request headers of a tunnel besides `:method` and `:authority`. */
export function buildTunnelHeaders(
  baggage: string,
  client: { readonly ip: string; readonly port: number },
  serviceHost: string | undefined,
): HeaderList {
  const host = serviceHost === undefined ? '' : `;host=${serviceHost}`;
  return [
    ['baggage', baggage],
    ['forwarded', `for="${joinHostPort(client.ip, client.port)}"${host}`],
    ['traceparent', newTraceparent()],
  ];
}

function newTraceparent(): string {
  const hex = randomBytes(24).toString('hex');
  return `00-${hex.slice(0, 32)}-${hex.slice(32)}-00`;
}

/** Reads all `baggage` headers; later keys win. A value that is not visible ASCII voids it all. */
export function parseBaggage(headers: HeaderList): Baggage {
  const values = new Map<string, string>();
  for (const [name, value] of headers) {
    if (name !== 'baggage') continue;
    if (!/^[\x20-\x7e]*$/.test(value)) return EMPTY_BAGGAGE;
    for (const part of value.split(',')) {
      const [key = '', text = ''] = part.split('=');
      if (text !== '') values.set(key.trim(), text.trim());
    }
  }
  const types = ['deployment', 'cronjob', 'pod', 'job'];
  return {
    clusterId: values.get('k8s.cluster.name'),
    namespace: values.get('k8s.namespace.name'),
    workloadName: types
      .map((type) => values.get(`k8s.${type}.name`))
      .find((name) => name !== undefined),
    serviceName: values.get('service.name'),
    revision: values.get('service.version'),
    region: values.get('cloud.region'),
    zone: values.get('cloud.availability_zone'),
  };
}

const EMPTY_BAGGAGE: Baggage = {
  clusterId: undefined,
  namespace: undefined,
  workloadName: undefined,
  serviceName: undefined,
  revision: undefined,
  region: undefined,
  zone: undefined,
};

/** `host=` of the first forwarded header that has one. */
export function parseForwardedHost(headers: HeaderList): string | undefined {
  for (const [name, value] of headers) {
    if (name !== 'forwarded') continue;
    for (const part of value.split(';')) {
      const text = part.trim();
      if (!text.startsWith('host=')) continue;
      const host = text.slice('host='.length).replace(/^"|"$/g, '');
      if (host !== '') return host;
    }
  }
  return undefined;
}
