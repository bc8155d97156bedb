// Reads the proxies' metrics by pod address, at most once a second however many look at the page.
import { get } from 'node:http';
import { parseSamples, type Sample } from '../../common/telemetry/samples.ts';

const TIMEOUT_MS = 1500;
const MAX_BYTES = 16 << 20;
const MAX_PROXIES = 256;
const METRICS_PORT = 15_020;

/** A proxy to read. */
export interface ProxyPod {
  readonly name: string;
  readonly address: string;
  /** `namespace/gateway` of a waypoint; undefined for a node proxy. */
  readonly waypoint?: string;
}

/** The samples of one proxy; empty when it did not answer. */
export interface ProxySamples {
  readonly proxy: ProxyPod;
  readonly isUp: boolean;
  readonly samples: readonly Sample[];
}

function fetchText(host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host, port: METRICS_PORT, path: '/stats/prometheus', agent: false };
    const request = get(options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_BYTES) request.destroy(new Error('metrics too large'));
      });
      response.on('end', () => resolve(text));
      response.on('error', reject);
    });
    const timer = setTimeout(() => request.destroy(new Error('no metrics in time')), TIMEOUT_MS);
    request.on('close', () => clearTimeout(timer));
    request.on('error', reject);
  });
}

/** Reads all proxies at once. */
export function scrapeProxies(proxies: readonly ProxyPod[]): Promise<ProxySamples[]> {
  return Promise.all(
    proxies.slice(0, MAX_PROXIES).map(async (proxy) => {
      const text = await fetchText(proxy.address).catch(() => undefined);
      return { proxy, isUp: text !== undefined, samples: parseSamples(text ?? '') };
    }),
  );
}
