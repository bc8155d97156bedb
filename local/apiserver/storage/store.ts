// Every object of the cluster, in memory, with one revision counter, a window of past events for each resource so
// that watches resume, and a journal. Stored objects are never changed in place: a change replaces the object.
import type { KubeObject } from '../objects.ts';
import { Journal } from './journal.ts';
import { expired } from '../status-error.ts';

export type EventType = 'ADDED' | 'MODIFIED' | 'DELETED';

export interface StoreEvent {
  readonly type: EventType;
  readonly bucket: string;
  readonly revision: number;
  readonly object: KubeObject;
  readonly previous: KubeObject | undefined;
}

export type Listener = (event: StoreEvent) => void;

const WINDOW_EVENTS = 4096;

interface Bucket {
  readonly objects: Map<string, KubeObject>;
  readonly window: StoreEvent[];
  /** Watches can resume from this revision or a later one. */
  floor: number;
  readonly listeners: Set<Listener>;
}

const jsonCache = new WeakMap<KubeObject, string>();

/** The JSON of a stored (hence immutable) object, made once. */
export function jsonOf(object: KubeObject): string {
  let json = jsonCache.get(object);
  if (json === undefined) {
    json = JSON.stringify(object);
    jsonCache.set(object, json);
  }
  return json;
}

/** `namespace/name`, or `/name` for cluster-scoped objects. */
export function keyOf(namespace: string | undefined, name: string): string {
  return `${namespace ?? ''}/${name}`;
}

/** The objects, their revisions and their watchers. */
export class Store {
  readonly #buckets = new Map<string, Bucket>();
  readonly #journal: Journal;
  readonly #listeners = new Set<Listener>();
  #revision = 0;
  /** No watch can resume from before this process: its window starts empty. */
  #startRevision = 0;

  constructor(dir: string) {
    this.#journal = Journal.open(dir, ({ bucket, key, revision, value }) => {
      this.#revision = Math.max(this.#revision, revision);
      if (bucket === '') return;
      const objects = this.#bucket(bucket).objects;
      if (value === undefined) objects.delete(key);
      else objects.set(key, value as KubeObject);
    });
    this.#startRevision = this.#revision;
    for (const bucket of this.#buckets.values()) bucket.floor = this.#revision;
    this.#journal.compact(this.#revision, this.#entries());
  }

  get revision(): number {
    return this.#revision;
  }

  get(bucket: string, namespace: string | undefined, name: string): KubeObject | undefined {
    return this.#bucket(bucket).objects.get(keyOf(namespace, name));
  }

  /** Objects sorted by key; of one namespace when it is given. */
  list(bucket: string, namespace?: string): KubeObject[] {
    const found: [string, KubeObject][] = [];
    for (const entry of this.#bucket(bucket).objects) {
      if (namespace === undefined || entry[1].metadata.namespace === namespace) found.push(entry);
    }
    return found.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  }

  /** Objects in no order, without a copy. */
  values(bucket: string): Iterable<KubeObject> {
    return this.#bucket(bucket).objects.values();
  }

  /** Names of the resources that hold an object. */
  buckets(): string[] {
    return [...this.#buckets].filter(([, { objects }]) => objects.size > 0).map(([name]) => name);
  }

  /** Creates or replaces an object; it gets the next revision and must not be changed afterwards. */
  put(bucket: string, object: KubeObject): KubeObject {
    const into = this.#bucket(bucket);
    const key = keyOf(object.metadata.namespace, object.metadata.name);
    const previous = into.objects.get(key);
    const revision = (this.#revision += 1);
    object.metadata.resourceVersion = String(revision);
    into.objects.set(key, object);
    const type = previous === undefined ? 'ADDED' : 'MODIFIED';
    this.#journal.append({ bucket, key, revision, value: jsonOf(object) });
    this.#publish(into, { type, bucket, revision, object, previous });
    return object;
  }

  /** Removes an object; undefined when there is none. */
  remove(bucket: string, namespace: string | undefined, name: string): KubeObject | undefined {
    const from = this.#bucket(bucket);
    const key = keyOf(namespace, name);
    const previous = from.objects.get(key);
    if (previous === undefined) return undefined;
    from.objects.delete(key);
    const revision = (this.#revision += 1);
    const metadata = { ...previous.metadata, resourceVersion: String(revision) };
    const object = { ...previous, metadata };
    this.#journal.append({ bucket, key, revision, value: undefined });
    this.#publish(from, { type: 'DELETED', bucket, revision, object, previous });
    return object;
  }

  /**
   * Calls `listener` for each later change of a resource, after replaying those since `from`. Throws 410 when
   * the window no longer reaches back that far.
   */
  watch(bucket: string, from: number, listener: Listener): () => void {
    const of = this.#bucket(bucket);
    if (from < of.floor) {
      throw expired(`too old resource version: ${from} (${of.floor})`);
    }
    for (const event of of.window) if (event.revision > from) listener(event);
    of.listeners.add(listener);
    return () => of.listeners.delete(listener);
  }

  /** Calls `listener` for every change of every resource. */
  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#journal.close();
  }

  #bucket(name: string): Bucket {
    let bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      bucket = { objects: new Map(), window: [], floor: this.#startRevision, listeners: new Set() };
      this.#buckets.set(name, bucket);
    }
    return bucket;
  }

  #publish(bucket: Bucket, event: StoreEvent): void {
    bucket.window.push(event);
    if (bucket.window.length > WINDOW_EVENTS * 2) {
      const dropped = bucket.window.splice(0, WINDOW_EVENTS);
      bucket.floor = dropped.at(-1)?.revision ?? bucket.floor;
    }
    for (const listener of bucket.listeners) listener(event);
    for (const listener of this.#listeners) listener(event);
    if (this.#journal.isLarge) this.#journal.compact(this.#revision, this.#entries());
  }

  *#entries(): Generator<{ bucket: string; key: string; revision: number; value: string }> {
    for (const [name, bucket] of this.#buckets) {
      for (const [key, object] of bucket.objects) {
        yield {
          bucket: name,
          key,
          revision: Number(object.metadata.resourceVersion),
          value: jsonOf(object),
        };
      }
    }
  }
}
