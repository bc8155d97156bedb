// One pod's queries: bytes in, the answer's bytes out. Decides between our own answer, forwarding and an error, and
// counts and logs each query once. Knows nothing of sockets.
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/clock.ts';
import {
  decodeQuestion,
  encodeAnswer,
  encodeFailure,
  isPlainQuery,
  readHeader,
} from '../../common/dns/codec.ts';
import type { DnsQuestion } from '../../common/dns/codec.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { dnsLabels } from './dns-metrics.ts';
import type { DnsMetrics } from './dns-metrics.ts';
import type { Forwarder } from './forwarder.ts';
import { resolveLocally } from './resolver.ts';
import type { LocalAnswer, ResolverSettings } from './resolver.ts';
import type { DnsTransport, UpstreamOrigin } from './upstream-attempt.ts';

const TTL_SEC = 30;
const MAX_TCP_BYTES = 65_535;
const WORKLOAD_WAIT_MS = 5000;
const WORKLOAD_POLL_MS = 100;
/** Queries of one pod that wait: for another server, or for the pod's own record. */
const MAX_PENDING = 200;
/** Queries of one pod: tokens a second and at most. A busy resolver asks some hundreds. */
const RATE_PER_SEC = 5000;
const BURST = 10_000;

/** What all pods share. */
export interface DnsParts {
  readonly settings: ResolverSettings;
  readonly store: WorkloadStore;
  readonly forwarder: Pick<Forwarder, 'forward'>;
  readonly metrics: DnsMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
}

/** What is known of a query; `question` is missing for what is passed on undecoded. */
interface Query {
  readonly bytes: Buffer;
  readonly transport: DnsTransport;
  readonly question: DnsQuestion | undefined;
}

/** Answers one pod's queries. */
export class QueryHandler {
  readonly #parts: DnsParts;
  readonly #pod: Pick<PodInfo, 'namespace' | 'name' | 'serviceAccount'>;
  readonly #origin: UpstreamOrigin;
  #pending = 0;
  #tokens = BURST;
  #tokensAtMs: number;
  #whenIdle: (() => void) | undefined;

  constructor(
    parts: DnsParts,
    pod: Pick<PodInfo, 'namespace' | 'name' | 'serviceAccount'>,
    origin: UpstreamOrigin,
  ) {
    this.#parts = parts;
    this.#pod = pod;
    this.#origin = origin;
    this.#tokensAtMs = parts.clock.elapsed();
  }

  /** Resolves when no query waits for anything. */
  whenIdle(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve();
    return new Promise((resolve) => (this.#whenIdle = resolve));
  }

  /** The answer; undefined for what deserves none (no message, a failure, or too many). Never rejects. */
  async answer(bytes: Buffer, transport: DnsTransport): Promise<Buffer | undefined> {
    const header = readHeader(bytes);
    // A failure that answers a failure would go on for ever between two servers.
    if (header === undefined || (header.isResponse && header.rcode !== 0)) return undefined;
    if (!this.#takeToken()) {
      this.#parts.metrics.countRefused(this.#labels(undefined, transport));
      return undefined;
    }
    if (header.isResponse) return encodeFailure(bytes, 'FORMERR');
    if (header.opcode !== 0) {
      this.#parts.metrics.countRequest(this.#labels(undefined, transport));
      return encodeFailure(bytes, 'NOTIMP');
    }
    let question: DnsQuestion | undefined;
    if (isPlainQuery(header)) {
      try {
        question = decodeQuestion(bytes);
      } catch {
        this.#parts.metrics.countRequest(this.#labels(undefined, transport));
        return encodeFailure(bytes, 'FORMERR');
      }
    }
    const query = { bytes, transport, question };
    const client = this.#findClient();
    if (client !== undefined) {
      const local = this.#answerLocally(query, client);
      if (local !== undefined) return local;
    }
    return this.#answerLater(query, client);
  }

  /** Addresses of a name that is the mesh's for this pod; undefined: it is not. */
  addressesOf(hostname: string): readonly string[] | undefined {
    const client = this.#findClient();
    if (client === undefined) return undefined;
    const { store, settings, random } = this.#parts;
    const name = hostname.toLowerCase().replace(/\.$/, '');
    const answers = (['A', 'AAAA'] as const).map((type) =>
      resolveLocally(store, client, { name, type, isInternet: true }, settings),
    );
    if (answers.every((answer) => answer === undefined)) return undefined;
    return answers
      .flatMap((answer) => shuffleAddresses(answer?.records ?? [], random))
      .filter(({ type }) => type !== 'CNAME')
      .map(({ data }) => data);
  }

  async #answerLater(query: Query, known: Workload | undefined): Promise<Buffer> {
    const { bytes, transport, question } = query;
    const labels = this.#labels(question?.type, transport, known);
    if (this.#pending >= MAX_PENDING) {
      this.#parts.metrics.countRefused(labels);
      return encodeFailure(bytes, 'SERVFAIL');
    }
    this.#pending++;
    try {
      const client = known ?? (await this.#waitForClient());
      if (known === undefined && client !== undefined) {
        const local = this.#answerLocally(query, client);
        if (local !== undefined) return local;
      }
      this.#parts.metrics.countRequest(labels);
      if (client === undefined) return encodeFailure(bytes, 'SERVFAIL');
      // A zone transfer is many messages.
      const isTransfer = question?.type === 'AXFR' || question?.type === 'IXFR';
      if (isTransfer) return encodeFailure(bytes, 'REFUSED');
      return await this.#forward(query, labels);
    } finally {
      this.#pending--;
      if (this.#pending === 0) this.#whenIdle?.();
    }
  }

  async #forward({ bytes, transport, question }: Query, labels: string): Promise<Buffer> {
    const { forwarder, metrics, logger } = this.#parts;
    const startedMs = performance.now();
    let answer: Buffer | undefined;
    let error: string | undefined;
    try {
      answer = await forwarder.forward(bytes, transport, this.#origin);
    } catch (err) {
      error = errorMessage(err);
    }
    const isFailure = answer === undefined || isUnwilling(readHeader(answer)?.rcode ?? 0);
    metrics.countUpstream(labels, (performance.now() - startedMs) / 1000, isFailure);
    if (logger.isLevelEnabled('debug')) {
      logger.debug(
        {
          ...this.#who(),
          query: question?.type,
          domain: question?.name,
          result: 'forwarded',
          error,
        },
        'dns query',
      );
    }
    return answer ?? encodeFailure(bytes, 'SERVFAIL');
  }

  #answerLocally({ transport, question }: Query, client: Workload): Buffer | undefined {
    const { store, settings, metrics, random } = this.#parts;
    const found = question && resolveLocally(store, client, question, settings);
    if (question === undefined || found === undefined) return undefined;
    metrics.countRequest(this.#labels(question.type, transport, client));
    this.#logLocal(question, found);
    const maxBytes = transport === 'udp' ? question.udpBytes : MAX_TCP_BYTES;
    const records = shuffleAddresses(found.records, random);
    return encodeAnswer(question, { code: 'NOERROR', records, ttlSec: TTL_SEC }, maxBytes);
  }

  #logLocal(question: DnsQuestion, found: LocalAnswer): void {
    const { logger } = this.#parts;
    if (!logger.isLevelEnabled('debug')) return;
    const endpoints = found.records.filter(({ type }) => type !== 'CNAME').map(({ data }) => data);
    logger.debug(
      {
        ...this.#who(),
        query: question.type,
        domain: question.name,
        result: found.service.hostname,
        endpoints: endpoints.join(','),
      },
      'dns query',
    );
  }

  #who(): object {
    return { 'src.workload': this.#pod.name, 'src.namespace': this.#pod.namespace };
  }

  #labels(type: string | undefined, transport: DnsTransport, client = this.#findClient()): string {
    return dnsLabels(type ?? '', transport, client);
  }

  #findClient(): Workload | undefined {
    const { namespace, name, serviceAccount } = this.#pod;
    return this.#parts.store.findLocal(namespace, name, serviceAccount);
  }

  /** A pod may ask before the control plane has told of it. */
  async #waitForClient(): Promise<Workload | undefined> {
    const { clock } = this.#parts;
    for (let waited = 0; waited < WORKLOAD_WAIT_MS; waited += WORKLOAD_POLL_MS) {
      await sleep(clock, WORKLOAD_POLL_MS);
      const client = this.#findClient();
      if (client !== undefined) return client;
    }
    return undefined;
  }

  #takeToken(): boolean {
    const now = this.#parts.clock.elapsed();
    const passedSec = (now - this.#tokensAtMs) / 1000;
    this.#tokens = Math.min(BURST, this.#tokens + passedSec * RATE_PER_SEC);
    this.#tokensAtMs = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

/** FORMERR, SERVFAIL, NOTIMP and REFUSED; that a name does not exist is an answer. */
function isUnwilling(rcode: number): boolean {
  return rcode !== 0 && rcode !== 3;
}

function shuffleAddresses<T extends { readonly type: string }>(
  records: readonly T[],
  random: () => number,
): T[] {
  const start = records[0]?.type === 'CNAME' ? 1 : 0;
  const mixed = [...records];
  for (let at = mixed.length - 1; at > start; at--) {
    const other = start + Math.floor(random() * (at - start + 1));
    const [one, two] = [mixed[at], mixed[other]];
    if (one !== undefined && two !== undefined) [mixed[at], mixed[other]] = [two, one];
  }
  return mixed;
}
