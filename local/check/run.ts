// `npm start -- --check`: verifies each statement on the running cluster, one line each.
import { errorMessage } from '../../common/errors.ts';
import type { Cluster } from '../cluster.ts';
import type { StartOptions } from '../options.ts';
import { openBench } from './bench.ts';
import { STATEMENTS } from './statements.ts';

/** Runs the statements in order; returns the exit code. */
export async function runChecks(
  cluster: Cluster,
  options: StartOptions,
  signal: AbortSignal,
): Promise<number> {
  const { only } = options;
  const wanted = STATEMENTS.filter(
    ({ name }) => only.length === 0 || only.some((start) => name.startsWith(start)),
  );
  const bench = openBench(cluster, options.stateDir, signal);
  let failures = 0;
  process.stdout.write('\n');
  for (const { name, verify } of wanted) {
    signal.throwIfAborted();
    const startedAt = performance.now();
    let line: string;
    try {
      const evidence = await verify(bench);
      line = `pass  ${name}: ${evidence}`;
    } catch (err) {
      failures++;
      line = `FAIL  ${name}: ${errorMessage(err)}`;
    } finally {
      bench.endLoads();
    }
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    process.stdout.write(`${line} (${seconds} s)\n`);
  }
  process.stdout.write(`\n${wanted.length - failures} of ${wanted.length} statements hold\n`);
  return failures === 0 && wanted.length > 0 ? 0 : 1;
}
