// A live copy of a collection: list, then watch with bookmarks, resuming where the last watch ended; a list again
// only when the server has forgotten that point (410). A kind that does not exist (its CRD is not installed)
// counts as empty and is asked for again. Runs until its signal aborts.
import { StringDecoder } from 'node:string_decoder';
import type { IncomingMessage } from 'node:http';
import { sleep } from '../clock.ts';
import type { Clock } from '../clock.ts';
import { errorMessage } from '../errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import { KubeError, isKubeStatus, readText, toError } from './client.ts';
import type { KubeClient, KubeList, KubeRequest } from './client.ts';
import { collectionPath, keyOf } from './resource.ts';
import type { KubeObject, ResourceKind } from './resource.ts';

/** What happened to an object; `previous` is the copy held before. */
export interface ObjectChange<T> {
  readonly key: string;
  readonly current: T | undefined;
  readonly previous: T | undefined;
}

/** Options of {@link Informer}. */
export interface InformerOptions<T> {
  readonly client: KubeClient;
  readonly kind: ResourceKind;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Called for each change, also for those a relist finds; never with equal resource versions. */
  onChange?(change: ObjectChange<T>): void;
  /** Called once, after the first list, or when the kind turned out not to exist. */
  onSynced?(): void;
  /** Called when a kind that was missing has been installed and listed. */
  onAppeared?(): void;
  readonly random?: () => number;
}

interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: T & { readonly code?: number; readonly message?: string };
}

const PAGE_SIZE = '500';
const FIRST_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 5000;
const ABSENT_RETRY_MS = 2000;
const WATCH_SEC = 300;
/** Bookmarks come about once a minute; silence beyond the server's own limit means a dead connection. */
const WATCH_SILENCE_MS = (WATCH_SEC + 60) * 1000;
const MIN_WATCH_MS = 500;
const MAX_LINE_BYTES = 16 << 20;

/** Keeps the copy. */
export class Informer<T extends KubeObject> {
  readonly #options: InformerOptions<T>;
  readonly #objects = new Map<string, T>();
  #resourceVersion = '';
  #hasSynced = false;
  #isAbsent = false;
  #backoffMs = 0;

  constructor(options: InformerOptions<T>) {
    this.#options = options;
  }

  /** Objects by `namespace/name`. */
  get objects(): ReadonlyMap<string, T> {
    return this.#objects;
  }

  /** True after the first list, or when the kind does not exist. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** True while the API does not know the kind. */
  get isAbsent(): boolean {
    return this.#isAbsent;
  }

  /** Lists and watches until the signal aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let delayMs = 0;
      try {
        if (this.#resourceVersion === '') await this.#list(signal);
        const startedAt = performance.now();
        await this.#watch(signal);
        // A server that ends every watch at once must not make us spin.
        if (performance.now() - startedAt < MIN_WATCH_MS) delayMs = MIN_WATCH_MS;
      } catch (err) {
        delayMs = this.#delayAfter(err, signal);
      }
      if (delayMs > 0) await sleep(this.#options.clock, delayMs, signal).catch(() => undefined);
    }
  }

  #delayAfter(err: unknown, signal: AbortSignal): number {
    if (signal.aborted) return 0;
    const { kind, logger, random = Math.random } = this.#options;
    if (isKubeStatus(err, 404)) {
      this.#markAbsent();
      return ABSENT_RETRY_MS * (0.75 + 0.5 * random());
    }
    if (isKubeStatus(err, 410)) {
      this.#resourceVersion = '';
      return 0;
    }
    this.#backoffMs = Math.min(MAX_BACKOFF_MS, Math.max(FIRST_BACKOFF_MS, this.#backoffMs * 2));
    const delayMs = this.#backoffMs * (0.5 + 0.5 * random());
    const fields = { kind: kind.kind, err: errorMessage(err), retryMs: Math.round(delayMs) };
    logger.warn(fields, 'watch of the kubernetes api failed');
    return delayMs;
  }

  #markAbsent(): void {
    this.#resourceVersion = '';
    if (!this.#isAbsent) {
      this.#isAbsent = true;
      this.#options.logger.info({ kind: this.#options.kind.kind }, 'kind is not installed');
    }
    for (const key of [...this.#objects.keys()]) this.#set(key, undefined);
    this.#markSynced();
  }

  #markSynced(): void {
    if (this.#hasSynced) return;
    this.#hasSynced = true;
    this.#options.onSynced?.();
  }

  async #list(signal: AbortSignal): Promise<void> {
    const seen = new Set<string>();
    let next: string | undefined;
    let resourceVersion = '';
    do {
      const page: KubeList<T> = await this.#options.client.json<KubeList<T>>(
        this.#request({ limit: PAGE_SIZE, continue: next }, signal),
      );
      for (const object of page.items ?? []) {
        seen.add(keyOf(object));
        this.#set(keyOf(object), object);
      }
      next = page.metadata?.continue === '' ? undefined : page.metadata?.continue;
      resourceVersion = page.metadata?.resourceVersion ?? '0';
    } while (next !== undefined);
    for (const key of [...this.#objects.keys()]) {
      if (!seen.has(key)) this.#set(key, undefined);
    }
    this.#resourceVersion = resourceVersion;
    const hasAppeared = this.#isAbsent;
    this.#isAbsent = false;
    this.#markSynced();
    if (hasAppeared) this.#options.onAppeared?.();
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const request = this.#request(
      {
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion: this.#resourceVersion,
        timeoutSeconds: String(WATCH_SEC),
      },
      signal,
    );
    const { message } = await this.#options.client.open(request, WATCH_SILENCE_MS);
    const status = message.statusCode ?? 0;
    if (status !== 200) throw toError(request, status, await readText(message));
    await readLines(message, (line) => this.#onLine(line));
  }

  #onLine(line: string): void {
    const event = JSON.parse(line) as WatchEvent<T>;
    if (event.type === 'ERROR') {
      const { code = 500, message = 'watch error' } = event.object;
      throw new KubeError(code, 'WatchError', message);
    }
    this.#backoffMs = 0;
    const { object } = event;
    if (event.type !== 'BOOKMARK') {
      this.#set(keyOf(object), event.type === 'DELETED' ? undefined : object);
    }
    this.#resourceVersion = object.metadata?.resourceVersion ?? this.#resourceVersion;
  }

  #set(key: string, object: T | undefined): void {
    const previous = this.#objects.get(key);
    const current = object === undefined ? undefined : trim(object);
    if (current === undefined) {
      if (!this.#objects.delete(key)) return;
    } else {
      const version = current.metadata?.resourceVersion;
      if (version !== undefined && version === previous?.metadata?.resourceVersion) return;
      this.#objects.set(key, current);
    }
    this.#options.onChange?.({ key, current, previous });
  }

  #request(query: Record<string, string | undefined>, signal: AbortSignal): KubeRequest {
    const { kind, namespace, labelSelector, fieldSelector } = this.#options;
    return {
      method: 'GET',
      path: collectionPath(kind, namespace),
      query: { ...query, labelSelector, fieldSelector },
      signal,
    };
  }
}

/**
 * Managed fields are half of an object's size and nobody here reads them. A null field (the API server's way to
 * write an empty list, such as an EndpointSlice's endpoints) is left out, so that readers see one kind of absence.
 */
function trim<T extends KubeObject>(object: T): T {
  const metadata: Record<string, unknown> = { ...object.metadata };
  delete metadata['managedFields'];
  const fields = Object.entries({ ...object, metadata }).filter(([, value]) => value !== null);
  return Object.fromEntries(fields) as unknown as T;
}

function readLines(message: IncomingMessage, onLine: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const decoder = new StringDecoder('utf8');
    let rest = '';
    const fail = (err: unknown): void => {
      message.destroy();
      reject(err instanceof Error ? err : new Error(String(err)));
    };
    message.on('data', (chunk: Buffer) => {
      rest += decoder.write(chunk);
      if (rest.length > MAX_LINE_BYTES) {
        fail(new Error('a watch event is too large'));
        return;
      }
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      try {
        for (const line of lines) if (line !== '') onLine(line);
      } catch (err) {
        fail(err);
      }
    });
    message.on('end', () => resolve());
    message.on('close', () => resolve());
    message.on('error', fail);
  });
}
