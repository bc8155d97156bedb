// The sockets a holder keeps, by pod. Without I/O: descriptors are numbers that this owns until it closes them.
import type { HeldPod } from './messages.ts';

/** A held pod with its descriptors, in the order of `names`. */
export interface StoredPod {
  readonly held: HeldPod;
  readonly fds: readonly number[];
}

/** Owns descriptors. */
export class SocketStore {
  readonly #close: (fd: number) => void;
  readonly #pods = new Map<string, StoredPod>();

  constructor(close: (fd: number) => void) {
    this.#close = close;
  }

  get size(): number {
    return this.#pods.size;
  }

  /**
   * Takes over the descriptors. False, and they are closed, when the same pod in the same namespace is held already: a
   * second set would get connections that nobody accepts. Another namespace means that the pod was made anew.
   */
  keep(held: HeldPod, fds: readonly number[]): boolean {
    const known = this.#pods.get(held.uid);
    const isValid = fds.length > 0 && fds.length === held.names.length;
    if (!isValid || known?.held.netnsId === held.netnsId) {
      for (const fd of fds) this.#close(fd);
      return false;
    }
    this.release(held.uid);
    this.#pods.set(held.uid, { held, fds });
    return true;
  }

  get(uid: string): StoredPod | undefined {
    return this.#pods.get(uid);
  }

  /** Up to `limit` uids that sort after the given one. */
  uids(after: string, limit: number): string[] {
    return [...this.#pods.keys()]
      .filter((uid) => uid > after)
      .sort()
      .slice(0, limit);
  }

  /** Closes a pod's descriptors; false when it is not held. */
  release(uid: string): boolean {
    const known = this.#pods.get(uid);
    if (known === undefined) return false;
    this.#pods.delete(uid);
    for (const fd of known.fds) this.#close(fd);
    return true;
  }

  /** Closes everything. */
  releaseAll(): void {
    for (const uid of [...this.#pods.keys()]) this.release(uid);
  }
}
