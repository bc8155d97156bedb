// Collects verdicts while compiling. Sorted at the end, so the output does not depend on the input's order.
import { compareText, type Resource, type ResourceMeta } from '../resources/resource.ts';
import { errorMessage } from '../errors.ts';
import { readMeta } from '../resources/resource.ts';
import type { EnforcedAt, Verdict, VerdictReason } from './types.ts';

type Subject = Pick<ResourceMeta, 'kind' | 'namespace' | 'name' | 'generation'>;

/** What is said of one field of one object. */
export interface VerdictEntry {
  readonly field: string;
  readonly enforcedAt: EnforcedAt;
  readonly reason: VerdictReason;
  readonly message: string;
  readonly waypoint?: string;
}

export class VerdictLog {
  readonly #verdicts = new Map<string, Verdict>();

  /** Records one verdict; the same one twice is kept once. */
  add(subject: Subject, entry: VerdictEntry): void {
    const { kind, namespace, name, generation } = subject;
    const verdict: Verdict = {
      kind,
      namespace,
      name,
      ...entry,
      ...(generation === undefined ? {} : { generation }),
    };
    const { field, enforcedAt, reason, waypoint = '', message } = entry;
    const parts = [kind, namespace, name, field, enforcedAt, reason, waypoint, message];
    const key = parts.join('\0');
    this.#verdicts.set(key, verdict);
  }

  /** Something without effect. */
  nowhere(subject: Subject, field: string, reason: VerdictReason, message: string): void {
    this.add(subject, { field, enforcedAt: 'nowhere', reason, message });
  }

  /** Reports what was wrong with an object; false when it cannot be applied at all. */
  admit(resource: Resource<unknown>): boolean {
    for (const problem of resource.problems) {
      this.nowhere(resource, problem.path, problem.reason, problem.message);
    }
    return !resource.isInvalid;
  }

  /** Runs `work` for one object; a throw is that object's verdict and nobody else's loss. */
  guard(kind: string, object: unknown, work: () => void): void {
    try {
      work();
    } catch (err) {
      const message = `the object cannot be read: ${errorMessage(err)}`;
      this.nowhere(readMeta(kind, object), 'spec', 'Invalid', message);
    }
  }

  /** All verdicts in a fixed order. */
  list(): Verdict[] {
    return [...this.#verdicts.entries()]
      .sort(([a], [b]) => compareText(a, b))
      .map(([, verdict]) => verdict);
  }
}
