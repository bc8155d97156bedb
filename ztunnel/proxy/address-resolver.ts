// Asks the control thread about addresses the data thread has not seen, once each; see state/publisher.ts.
import { MeshError } from '../../common/errors.ts';

interface Pending {
  readonly promise: Promise<boolean>;
  readonly resolve: (isAnswered: boolean) => void;
}

/** What has become of questions. */
export interface AddressAnswers {
  readonly answers: readonly string[];
  readonly unanswered: readonly string[];
  readonly forgotten: readonly string[];
  readonly isReset: boolean;
}

/** Knows which addresses were answered. */
export class AddressResolver {
  readonly #ask: (key: string) => void;
  readonly #known = new Set<string>();
  readonly #pending = new Map<string, Pending>();

  constructor(ask: (key: string) => void) {
    this.#ask = ask;
  }

  /** Undefined when the answer is here; else resolves when it has come, or false when it will not. */
  resolve(network: string, ip: string): Promise<boolean> | undefined {
    const key = `${network}/${ip}`;
    if (this.#known.has(key)) return undefined;
    const pending = this.#pending.get(key);
    if (pending !== undefined) return pending.promise;
    let resolve: ((isAnswered: boolean) => void) | undefined;
    const promise = new Promise<boolean>((done) => {
      resolve = done;
    });
    if (resolve === undefined) throw new MeshError('internal', 'promise without executor');
    this.#pending.set(key, { promise, resolve });
    this.#ask(key);
    return promise;
  }

  /** Takes answers: call after the store has their records. */
  answer({ answers, unanswered, forgotten, isReset }: AddressAnswers): void {
    if (isReset) this.#known.clear();
    for (const key of forgotten) this.#known.delete(key);
    for (const key of answers) {
      this.#known.add(key);
      this.#settle(key, true);
    }
    for (const key of unanswered) this.#settle(key, false);
  }

  #settle(key: string, isAnswered: boolean): void {
    const pending = this.#pending.get(key);
    this.#pending.delete(key);
    pending?.resolve(isAnswered);
  }
}
