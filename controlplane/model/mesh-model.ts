// Holds the compiler's last good output. An error of the compiler is a bug of ours; it is logged and counted, and
// the mesh goes on with what it had.
import { compile } from '../../common/compile/compile.ts';
import type { CompileOutput, CompileInput } from '../../common/compile/types.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';

/** Numbers for metrics. */
export interface ModelStats {
  readonly compiles: number;
  readonly failures: number;
  readonly lastMs: number;
}

/** The compiled mesh. */
export class MeshModel {
  readonly #logger: Logger;
  #output: CompileOutput | undefined;
  #compiles = 0;
  #failures = 0;
  #lastMs = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** The last good output; undefined before the first. */
  get output(): CompileOutput | undefined {
    return this.#output;
  }

  get stats(): ModelStats {
    return { compiles: this.#compiles, failures: this.#failures, lastMs: this.#lastMs };
  }

  /** Compiles; true when there is a new output. */
  update(input: CompileInput): boolean {
    const startedAt = performance.now();
    try {
      this.#output = compile(input, this.#output);
      this.#compiles++;
      return true;
    } catch (err) {
      this.#failures++;
      const stack = err instanceof Error ? err.stack : undefined;
      this.#logger.error({ err: errorMessage(err), stack }, 'compile failed, last output kept');
      return false;
    } finally {
      this.#lastMs = performance.now() - startedAt;
    }
  }
}
