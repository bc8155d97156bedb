// Equal parts of the workloads kept once: namespaces, nodes, names of deployments, ports. Bounded: when a pool is full it
// begins anew, and what was shared stays so.

const MAX_SHARED = 16_384;

/** One copy of each text. */
export class TextPool {
  #texts = new Map<string, string>();

  /** The copy that came first. */
  share(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    if (this.#texts.size >= MAX_SHARED) this.#texts = new Map();
    this.#texts.set(text, text);
    return text;
  }
}

/** One copy of each value, by a text that says all of it. Values must not be changed. */
export class ValuePool<T> {
  #values = new Map<string, T>();

  share(key: string, value: T): T {
    const known = this.#values.get(key);
    if (known !== undefined) return known;
    if (this.#values.size >= MAX_SHARED) this.#values = new Map();
    this.#values.set(key, value);
    return value;
  }
}
