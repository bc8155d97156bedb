// The name servers that forwarded questions go to: those of a resolv.conf file, read again when it is a few
// seconds old, since kubelets rewrite it in place. Search lists in it are for our own lookups, not for pods.
import { readFileSync } from 'node:fs';
import type { Clock } from '../../common/clock.ts';
import { normalizeIp } from '../../common/workload/ip.ts';

const DNS_PORT = 53;
const MAX_SERVERS = 3;
const MAX_SEARCH = 32;
const REREAD_MS = 10_000;

/** A name server. */
export interface NameServer {
  readonly address: string;
  readonly port: number;
}

/** What a resolv.conf file says. */
export interface ResolvConf {
  readonly servers: readonly NameServer[];
  readonly search: readonly string[];
  /** A name with fewer dots is tried with the search list first. */
  readonly ndots: number;
}

/** Reads the format of resolv.conf(5); what cannot be understood is skipped. */
export function parseResolvConf(text: string): ResolvConf {
  const servers: NameServer[] = [];
  let search: string[] = [];
  let ndots = 1;
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    if (keyword === 'nameserver' && servers.length < MAX_SERVERS) {
      const address = normalizeIp((words[0] ?? '').replace(/%.*$/, ''));
      if (address !== undefined) servers.push({ address, port: DNS_PORT });
    } else if (keyword === 'search' || keyword === 'domain') {
      search = words.slice(0, MAX_SEARCH).map((word) => word.toLowerCase().replace(/\.$/, ''));
    } else if (keyword === 'options') {
      const given = words.map((word) => /^ndots:(\d{1,2})$/.exec(word)?.[1]).find(Boolean);
      if (given !== undefined) ndots = Math.min(15, Number(given));
    }
  }
  return { servers, search, ndots };
}

/** The file's content, kept current. A file that cannot be read is an empty one. */
export class ResolvConfFile {
  readonly #path: string;
  readonly #clock: Clock;
  #read: ResolvConf | undefined;
  #readAtMs = 0;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  get current(): ResolvConf {
    const now = this.#clock.now();
    if (this.#read === undefined || Math.abs(now - this.#readAtMs) > REREAD_MS) {
      this.#read = parseResolvConf(readText(this.#path) ?? '');
      this.#readAtMs = now;
    }
    return this.#read;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
