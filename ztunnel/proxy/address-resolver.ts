// Asks the control thread about addresses the data thread has not seen, once each; see state/publisher.ts.
import { MeshError } from '../../common/errors.ts';

interface Pending {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

/** Knows which addresses were answered. */
export class AddressResolver {
  readonly #ask: (key: string) => void;
  readonly #known = new Set<string>();
  readonly #pending = new Map<string, Pending>();

  constructor(ask: (key: string) => void) {
    this.#ask = ask;
  }

  /** Undefined when the answer is here; else resolves when it has come. */
  resolve(network: string, ip: string): Promise<void> | undefined {
    const key = `${network}/${ip}`;
    if (this.#known.has(key)) return undefined;
    const pending = this.#pending.get(key);
    if (pending !== undefined) return pending.promise;
    let resolve: (() => void) | undefined;
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    if (resolve === undefined) throw new MeshError('internal', 'promise without executor');
    this.#pending.set(key, { promise, resolve });
    this.#ask(key);
    return promise;
  }

  /** Takes an answer: call after the store has its records. */
  answer(keys: readonly string[], isReset: boolean): void {
    if (isReset) this.#known.clear();
    for (const key of keys) {
      this.#known.add(key);
      const pending = this.#pending.get(key);
      this.#pending.delete(key);
      pending?.resolve();
    }
  }
}
