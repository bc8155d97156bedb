// An index from a name within a scope (a network, a namespace) to what is there. Most names have one thing: it is kept
// itself, and only several become a map, since there is an entry for each of 100,000 workloads.

/** Values of one index have an id that tells them apart. */
export class ScopedIndex<T extends object> {
  readonly #idOf: (value: T) => string;
  readonly #scopes = new Map<string, Map<string, T | Map<string, T>>>();

  constructor(idOf: (value: T) => string) {
    this.#idOf = idOf;
  }

  /** Adds, or replaces what has the same id there. */
  put(scope: string, name: string, value: T): void {
    let names = this.#scopes.get(scope);
    if (names === undefined) {
      names = new Map();
      this.#scopes.set(scope, names);
    }
    const known = names.get(name);
    if (known instanceof Map) known.set(this.#idOf(value), value);
    else if (known === undefined || this.#idOf(known) === this.#idOf(value)) names.set(name, value);
    else {
      const both: [string, T][] = [known, value].map((one) => [this.#idOf(one), one]);
      names.set(name, new Map(both));
    }
  }

  /** Removes what has the id of the value. */
  drop(scope: string, name: string, value: T): void {
    const names = this.#scopes.get(scope);
    const known = names?.get(name);
    if (names === undefined || known === undefined) return;
    if (known instanceof Map) {
      known.delete(this.#idOf(value));
      if (known.size > 0) return;
    } else if (this.#idOf(known) !== this.#idOf(value)) return;
    names.delete(name);
    if (names.size === 0) this.#scopes.delete(scope);
  }

  /** Everything of a name, in the order it came. */
  get(scope: string, name: string): Iterable<T> {
    const known = this.#scopes.get(scope)?.get(name);
    if (known === undefined) return [];
    return known instanceof Map ? known.values() : [known];
  }

  /** Forgets everything. */
  clear(): void {
    this.#scopes.clear();
  }
}
