// `npm run soak -- fairness [--rate 2000] [--seconds 10]`, `memory`, `workloads [--workloads 50000]`: what takes too long, or depends
// too much on the machine, for `npm test`. Needs root. Prints JSON; numbers that matter are kept in docs/performance.md.
import { parseArgs } from 'node:util';
import { measureFairness } from './fairness.ts';
import { measureIdle } from './idle.ts';
import { measureMemory } from './memory.ts';
import { measureWorkloads } from './workloads.ts';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    rate: { type: 'string', default: '2000' },
    seconds: { type: 'string', default: '10' },
    connections: { type: 'string', default: '10000' },
    workloads: { type: 'string', default: '100000' },
  },
});

const RUNS: Readonly<Record<string, () => Promise<unknown>>> = {
  fairness: () =>
    measureFairness({ stormRate: Number(values.rate), seconds: Number(values.seconds) }),
  memory: () =>
    measureMemory({
      idleConnections: Number(values.connections),
      slowReaders: 50,
      scannedAddresses: 65_536,
      workloads: Number(values.workloads),
    }),
  idle: () => measureIdle(),
  workloads: () => measureWorkloads(Number(values.workloads), Number(values.seconds)),
};

const run = RUNS[positionals[0] ?? ''];
if (run === undefined) {
  process.stderr.write(`usage: npm run soak -- ${Object.keys(RUNS).join('|')}\n`);
  process.exitCode = 2;
} else {
  process.stdout.write(`${JSON.stringify(await run(), undefined, 2)}\n`);
}
