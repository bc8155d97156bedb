// What controllers share: a queue of keys that are handled one after the other outside of the event that queued them, so
// that a controller never changes the store while its listeners are being told of another change.
import type { Clock, Timer } from '../../../common/clock.ts';
import { errorMessage } from '../../../common/errors.ts';
import type { Logger } from '../../../common/telemetry/logger.ts';
import type { Lifecycle } from '../api/lifecycle.ts';
import { controllerOf } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import type { Registry } from '../registry/registry.ts';
import type { Resource } from '../registry/resource.ts';
import { MeshError } from '../../../common/errors.ts';
import { keyOf } from '../storage/store.ts';
import type { StoreEvent } from '../storage/store.ts';

export interface ControllerContext {
  readonly lifecycle: Lifecycle;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * The key of the object that an event concerns: itself if it is of `own`, or the owner of that `kind` of one of its
 * `children`.
 */
export function concernedKey(
  { bucket, object }: StoreEvent,
  {
    own,
    children,
    kind,
  }: { readonly own: string; readonly children: string; readonly kind: string },
): string | undefined {
  const { namespace, name } = object.metadata;
  if (bucket === own) return keyOf(namespace, name);
  const owner = bucket === children ? controllerOf(object) : undefined;
  return owner?.kind === kind ? keyOf(namespace, owner.name) : undefined;
}

/** Reacts to changes. */
export interface Controller {
  /** Called in the middle of a change: may only queue. */
  onEvent(event: StoreEvent): void;
  close(): void;
}

const RETRY_MS = 200;

/** Keys to be handled; a key queued twice is handled once. */
export class WorkQueue {
  readonly #keys = new Set<string>();
  readonly #timers = new Map<string, { readonly timer: Timer; readonly dueMs: number }>();
  readonly #handle: (key: string) => void;
  readonly #context: ControllerContext;
  #scheduled = false;
  #closed = false;

  constructor(context: ControllerContext, handle: (key: string) => void) {
    this.#context = context;
    this.#handle = handle;
  }

  add(key: string): void {
    this.#keys.add(key);
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => this.#run());
  }

  /** Queues a key after a while; the earliest wish for a key wins. */
  addLater(key: string, delayMs: number): void {
    const { clock } = this.#context;
    const dueMs = clock.now() + delayMs;
    const known = this.#timers.get(key);
    if (this.#closed || (known !== undefined && known.dueMs <= dueMs)) return;
    known?.timer.cancel();
    const timer = clock.after(delayMs, () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, { timer, dueMs });
  }

  close(): void {
    this.#closed = true;
    for (const { timer } of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    this.#keys.clear();
  }

  #run(): void {
    this.#scheduled = false;
    const keys = [...this.#keys];
    this.#keys.clear();
    for (const key of keys) {
      if (this.#closed) return;
      try {
        this.#handle(key);
      } catch (err) {
        this.#context.log.warn({ key, error: errorMessage(err) }, 'controller will try again');
        this.addLater(key, RETRY_MS);
      }
    }
  }
}

/** A resource that is always served. */
export function builtin(context: ControllerContext, bucket: string): Resource {
  const resource = context.registry.findBucket(bucket);
  if (resource === undefined) throw new MeshError('unknown_resource', `no resource ${bucket}`);
  return resource;
}

/** The owner reference that makes an object its controller's. */
export function ownedBy(owner: KubeObject): {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller: true;
  blockOwnerDeletion: true;
} {
  const { apiVersion, kind, metadata } = owner;
  const { name, uid } = metadata;
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true };
}

/** `namespace/name` of a key back to its parts. */
export function splitKey(key: string): { namespace: string | undefined; name: string } {
  const at = key.indexOf('/');
  const namespace = key.slice(0, at);
  return { namespace: namespace === '' ? undefined : namespace, name: key.slice(at + 1) };
}
