// Forwards questions that are not ours, byte for byte but for the id. The servers of resolv.conf are asked in turn; a
// late answer of one already asked still counts. An unreachable or unwilling server is skipped at once.
import { randomInt } from 'node:crypto';
import type { Clock, Timer } from '../../common/clock.ts';
import { readHeader } from '../../common/dns/codec.ts';
import { errorMessage, MeshError } from '../../common/errors.ts';
import { startAttempt } from './upstream-attempt.ts';
import type { DnsTransport, UpstreamOrigin } from './upstream-attempt.ts';
import type { NameServer } from './upstream-servers.ts';

/** How long a server is waited for before the next is asked too; after the last, until the deadline. */
const STEP_MS = 1000;
/** A pod's resolver waits five seconds. */
const DEADLINE_MS = 4500;
const ROUNDS = 2;
const MAX_IN_FLIGHT = 1024;
const HEADER_BYTES = 12;
const SERVFAIL = 2;
const NOTIMP = 4;
const REFUSED = 5;

/** Options of {@link Forwarder}. */
export interface ForwarderOptions {
  readonly servers: () => readonly NameServer[];
  readonly clock: Clock;
}

/** One for the process. */
export class Forwarder {
  readonly #options: ForwarderOptions;
  #inFlight = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /** The server's answer with the query's id. Rejects with `MeshError`: dns_no_upstream, dns_busy. */
  async forward(query: Buffer, transport: DnsTransport, origin: UpstreamOrigin): Promise<Buffer> {
    const { clock } = this.#options;
    const servers = this.#options.servers();
    if (servers.length === 0) throw new MeshError('dns_no_upstream', 'no name server is known');
    if (this.#inFlight >= MAX_IN_FLIGHT) {
      throw new MeshError('dns_busy', 'too many forwarded questions');
    }
    this.#inFlight++;
    try {
      return await new Exchange({ query, transport, origin, servers, clock }).run();
    } finally {
      this.#inFlight--;
    }
  }
}

interface ExchangeOptions {
  readonly query: Buffer;
  readonly transport: DnsTransport;
  readonly origin: UpstreamOrigin;
  readonly servers: readonly NameServer[];
  readonly clock: Clock;
}

/** One forwarded question: its tries, of which several may be open. */
class Exchange {
  readonly #options: ExchangeOptions;
  readonly #sent: Buffer;
  readonly #id: number;
  readonly #open = new Set<() => void>();
  readonly #timers: Timer[] = [];
  #started = 0;
  #step: Timer | undefined;
  /** An answer that another server may better. */
  #fallback: Buffer | undefined;
  #lastError = 'no answer';
  #resolve: (answer: Buffer) => void = () => undefined;
  #reject: (err: Error) => void = () => undefined;
  #isDone = false;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.#id = randomInt(0x10000);
    this.#sent = Buffer.from(options.query);
    this.#sent.writeUInt16BE(this.#id, 0);
  }

  run(): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#timers.push(this.#options.clock.after(DEADLINE_MS, () => this.#finish()));
      this.#tryNext();
    });
  }

  #tryNext(): void {
    if (this.#isDone) return;
    this.#step?.cancel();
    const { servers, transport, origin, clock } = this.#options;
    const server = servers[this.#started % servers.length];
    if (server === undefined || this.#started >= servers.length * ROUNDS) {
      if (this.#open.size === 0) this.#finish();
      return;
    }
    this.#started++;
    let hasFailed = false;
    const end = startAttempt(transport, server, this.#sent, origin, {
      onMessage: (message) => this.#judge(message, fail),
      onFailure: (err) => {
        this.#lastError = `${server.address}: ${errorMessage(err)}`;
        fail();
      },
    });
    const fail = (): void => {
      if (hasFailed) return;
      hasFailed = true;
      end();
      this.#open.delete(end);
      this.#skip();
    };
    this.#open.add(end);
    this.#step = clock.after(STEP_MS, () => this.#tryNext());
  }

  /** A try has failed: the next at once in the first round; the second round keeps its pace, for what recovers. */
  #skip(): void {
    if (this.#isDone) return;
    const { servers } = this.#options;
    const isRoundLeft = this.#started < servers.length;
    if (isRoundLeft || this.#started >= servers.length * ROUNDS) this.#tryNext();
    else if (this.#fallback !== undefined && this.#open.size === 0) this.#finish();
  }

  #judge(message: Buffer, fail: () => void): void {
    if (!isAnswerTo(this.#sent, message)) return;
    const code = readHeader(message)?.rcode;
    if (code === SERVFAIL || code === NOTIMP || code === REFUSED) {
      // That one failed says more than that another does not serve us.
      if (this.#fallback === undefined || code === SERVFAIL) this.#fallback = message;
      fail();
      return;
    }
    this.#finish(message);
  }

  #finish(answer = this.#fallback): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#step?.cancel();
    for (const timer of this.#timers) timer.cancel();
    for (const end of this.#open) end();
    this.#open.clear();
    if (answer === undefined) {
      this.#reject(new MeshError('dns_no_upstream', this.#lastError));
      return;
    }
    const bytes = Buffer.from(answer);
    this.#options.query.copy(bytes, 0, 0, 2);
    this.#resolve(bytes);
  }
}

/** A response with our id and, if it repeats the question, ours. Letter case may differ. */
function isAnswerTo(query: Buffer, message: Buffer): boolean {
  const asked = readHeader(query);
  const header = readHeader(message);
  if (asked === undefined || header === undefined) return false;
  if (!header.isResponse || header.id !== asked.id || header.opcode !== asked.opcode) return false;
  if (asked.questionCount !== 1 || header.questionCount === 0) return true;
  let at = HEADER_BYTES;
  while ((query[at] ?? 0) !== 0) at += 1 + (query[at] ?? 0);
  const end = at + 5;
  const question = (bytes: Buffer): string =>
    bytes.toString('latin1', HEADER_BYTES, end).toLowerCase();
  return question(query) === question(message);
}
