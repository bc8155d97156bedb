// Reads the proxies' metrics as Prometheus does.
import { get } from 'node:http';
import { parseSamples, type Sample } from '../common/telemetry/samples.ts';
import { KINDS } from '../common/kube/resource.ts';
import { joinHostPort } from '../common/workload/ip.ts';
import type { ClusterApi, Pod } from './cluster-api.ts';

const TIMEOUT_MS = 2000;
const MAX_BYTES = 16 << 20;

/** Fetches a text over plain HTTP with a deadline and a bound. */
export function fetchText(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = get(url, { agent: false }, (res) => {
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_BYTES) req.destroy(new Error('answer too large'));
      });
      res.on('end', () => {
        if (res.statusCode === 200) resolve(text);
        else reject(new Error(`${url}: status ${res.statusCode ?? 0}`));
      });
      res.on('error', reject);
    });
    const timer = setTimeout(() => req.destroy(new Error(`${url}: no answer`)), TIMEOUT_MS);
    req.on('close', () => clearTimeout(timer));
    req.on('error', reject);
  });
}

export interface ProxyMetrics {
  readonly ztunnels: readonly Sample[];
  readonly waypoints: readonly Sample[];
}

const isWaypoint = (pod: Pod): boolean =>
  pod.metadata?.labels?.['gateway.istio.io/managed'] !== undefined;
const isZtunnel = (pod: Pod): boolean =>
  pod.metadata?.labels?.['app'] === 'ztunnel' && pod.metadata.namespace === 'istio-system';

async function scrapePods(pods: readonly Pod[]): Promise<Sample[]> {
  const addresses = pods.flatMap(({ status }) => (status?.podIP ? [status.podIP] : []));
  const texts = await Promise.all(
    addresses.map((ip) =>
      fetchText(`http://${joinHostPort(ip, 15_020)}/stats/prometheus`).catch(() => ''),
    ),
  );
  return texts.flatMap(parseSamples);
}

/** The metrics of all node proxies and all waypoints that answer. */
export async function scrapeProxies(api: ClusterApi): Promise<ProxyMetrics> {
  const pods = await api.list<Pod>(KINDS.pods);
  const [ztunnels, waypoints] = await Promise.all([
    scrapePods(pods.filter(isZtunnel)),
    scrapePods(pods.filter(isWaypoint)),
  ]);
  return { ztunnels, waypoints };
}
