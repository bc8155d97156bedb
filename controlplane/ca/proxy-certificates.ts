// What certificates the proxies have that this control plane did not issue: those from before its start, read from the
// metrics of each proxy once, so that one that is not renewed is an Event after a restart too.
import type { Clock, Timer } from '../../common/clock.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import { proxyPods } from '../dashboard/dashboard.ts';
import { scrapeProxies } from '../dashboard/proxy-scraper.ts';
import type { ProxySamples } from '../dashboard/proxy-scraper.ts';
import type { CertificateWatch, Issued } from './certificate-watch.ts';
import { hasIdentity } from './certificate-watch.ts';
import type { PlacedPod } from './impersonation.ts';

/** Options of {@link ProxyCertificates}. */
export interface ProxyCertificatesOptions {
  readonly clock: Clock;
  readonly rootNamespace: string;
  readonly pods: () => ReadonlyMap<string, PlacedPod & KubeObject>;
  readonly watch: Pick<CertificateWatch, 'found'>;
}

/** Longer than the longest back-off of a proxy: what could be renewed after the start has been by then. */
const READ_MS = 300_000;
const AT_ONCE = 16;
const EXPIRY = 'ambient_certificate_expiry_seconds';

/** Reads the proxies that it has not read yet, from time to time. */
export class ProxyCertificates {
  readonly #options: ProxyCertificatesOptions;
  readonly #read = new Set<string>();
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(options: ProxyCertificatesOptions) {
    this.#options = options;
    this.#readLater();
  }

  /** Reads them now; one that does not answer is read the next time. */
  async read(): Promise<void> {
    const { clock, rootNamespace, pods, watch } = this.#options;
    const proxies = proxyPods(pods().values(), rootNamespace);
    const names = new Set(proxies.map(({ name }) => name));
    for (const name of this.#read) if (!names.has(name)) this.#read.delete(name);
    const unread = proxies.filter(({ name }) => !this.#read.has(name));
    for (let at = 0; at < unread.length && !this.#isClosed; at += AT_ONCE) {
      for (const answer of await scrapeProxies(unread.slice(at, at + AT_ONCE))) {
        const { name, waypoint } = answer.proxy;
        if (!answer.isUp) continue;
        this.#read.add(name);
        const pod = pods().get(name);
        for (const issued of certificatesIn(answer, clock.now())) {
          // Anybody may label a pod as a waypoint: it is believed about itself only.
          const isBelieved = waypoint === undefined || (pod && hasIdentity(pod, issued.identity));
          if (isBelieved === true) watch.found(name, issued);
        }
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  #readLater(): void {
    this.#timer = this.#options.clock.after(READ_MS, () => {
      void this.read().then(() => {
        if (!this.#isClosed) this.#readLater();
      });
    });
  }
}

/**
 * The certificates that a proxy tells of. Since when they count is not told: as if they were issued now, which finds one
 * that is not renewed later than otherwise, but before its end, and never one that is in time.
 */
function certificatesIn({ samples }: ProxySamples, nowMs: number): Issued[] {
  return samples.flatMap(({ name, labels, value }) => {
    const { identity } = labels;
    // 0: there never was one, and then it is being asked for.
    if (name !== EXPIRY || identity === undefined || !Number.isFinite(value) || value === 0)
      return [];
    const notAfterMs = nowMs + value * 1000;
    return [{ identity, notBeforeMs: Math.min(nowMs, notAfterMs - 1), notAfterMs }];
  });
}
