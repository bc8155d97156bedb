// The shape of a statement: a name and what verifies it. `verify` first passes the statement's own control, then
// returns the evidence in a few words, or throws with what was wrong.
import type { Bench } from './bench.ts';

export interface Statement {
  readonly name: string;
  readonly verify: (bench: Bench) => Promise<string>;
}
