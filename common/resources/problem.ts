// What can be wrong with a resource: a field nobody knows, one that is known and not served, or a bad value.

export type ProblemReason = 'UnknownField' | 'UnsupportedField' | 'UnsupportedValue' | 'Invalid';

/** One finding in one object; `path` starts at the object, e.g. `spec.http[0].timeout`. */
export interface Problem {
  readonly path: string;
  readonly reason: ProblemReason;
  readonly message: string;
}

/** Collects findings below one path; `at` narrows the path, sharing the list. */
export class Problems {
  readonly list: Problem[];
  readonly #path: string;

  constructor(path: string, list: Problem[] = []) {
    this.#path = path;
    this.list = list;
  }

  /** The same collector one step down: `at('http', 0)` is `….http[0]`. */
  at(...steps: readonly (string | number)[]): Problems {
    return new Problems(joinPath(this.#path, ...steps), this.list);
  }

  /** Records a bad value; the object it is in is not applied. */
  invalid(message: string): void {
    this.add('Invalid', message);
  }

  /** Records any finding at this path. */
  add(reason: ProblemReason, message: string): void {
    this.list.push({ path: this.#path, reason, message: `${this.#path}: ${message}` });
  }

  /** Records a bad value unless the claim holds. */
  check(claim: boolean, message: string): void {
    if (!claim) this.invalid(message);
  }
}

/** A JSON path: names joined by dots, numbers in brackets. */
export function joinPath(base: string, ...steps: readonly (string | number)[]): string {
  let path = base;
  for (const step of steps) path += typeof step === 'number' ? `[${step}]` : `.${step}`;
  return path;
}
