// `npm run soak`: what takes too long, or depends too much on the machine, for `npm test`. Needs root. Prints JSON; numbers
// that matter are kept in docs/performance.md. Without a name: the long mixed run.
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { TRANSFER_PATHS, measureChecksum } from './checksum.ts';
import { drawCurves, measureCurves } from './curve.ts';
import type { Curves } from './curve.ts';
import { FAIRNESS_SETUPS, measureFairness } from './fairness.ts';
import { measureIdle } from './idle.ts';
import { measureMemory } from './memory.ts';
import { runMixed } from './mixed.ts';
import { measureWorkloads } from './workloads.ts';

const USAGE = `usage: npm run soak -- [RUN] [options]

mixed      mixed load and changes for --minutes 60; memory, descriptors and threads stay flat. --out FILE draws it
fairness   a quiet pod beside one that opens --rate 2000 connections a second, --seconds 10: through the mesh, direct as a
           control, and with the proxies on a processor apart (--setup: one of mesh, direct, apart); --favour: real time
           for what is measured, where others use the machine
memory     --connections 10000 idle ones, slow readers, a scan, --workloads 100000
workloads  how long --workloads 50000 take to load, and what requests feel meanwhile
idle       processes that do nothing
checksum   --gb 10 up and down with checksums, --path same_node or across
curve      over connections and workloads: docs/curves.json and docs/curves.svg
plot       docs/curves.svg from docs/curves.json
`;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    rate: { type: 'string', default: '2000' },
    setup: { type: 'string' },
    favour: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '10' },
    minutes: { type: 'string', default: '60' },
    out: { type: 'string' },
    nice: { type: 'boolean', default: false },
    connections: { type: 'string', default: '10000' },
    workloads: { type: 'string' },
    gb: { type: 'string', default: '10' },
    path: { type: 'string', default: 'same_node' },
  },
});

const CURVES = 'docs/curves.json';
const CURVES_SVG = 'docs/curves.svg';

async function mixed(): Promise<unknown> {
  const { svg, ...report } = await runMixed(Number(values.minutes), values.nice);
  if (values.out !== undefined) writeFileSync(values.out, svg);
  if (!report.isFlat) process.exitCode = 1;
  return report;
}

async function checksum(): Promise<unknown> {
  const path = TRANSFER_PATHS.find((one) => one === values.path);
  if (path === undefined) throw new Error(`--path is one of ${TRANSFER_PATHS.join(', ')}`);
  const report = await measureChecksum(path, Number(values.gb));
  if (!report.isRight) process.exitCode = 1;
  return report;
}

async function curve(): Promise<unknown> {
  const curves = await measureCurves();
  writeFileSync(CURVES, `${JSON.stringify(curves, undefined, 2)}\n`);
  return plot();
}

function plot(): unknown {
  const curves = JSON.parse(readFileSync(CURVES, 'utf8')) as Curves;
  writeFileSync(CURVES_SVG, drawCurves(curves));
  return curves;
}

const RUNS: Readonly<Record<string, () => unknown>> = {
  mixed,
  fairness: () =>
    measureFairness({
      stormRate: Number(values.rate),
      seconds: Number(values.seconds),
      isFavoured: values.favour,
      setups: FAIRNESS_SETUPS.filter((one) => one === (values.setup ?? one)),
    }),
  memory: () =>
    measureMemory({
      idleConnections: Number(values.connections),
      openStreams: 5000,
      slowReaders: 50,
      scannedAddresses: 65_536,
      workloads: Number(values.workloads ?? '100000'),
    }),
  workloads: () => measureWorkloads(Number(values.workloads ?? '50000'), Number(values.seconds)),
  idle: measureIdle,
  checksum,
  curve,
  plot,
};

const run = RUNS[positionals[0] ?? 'mixed'];
if (run === undefined) {
  process.stderr.write(USAGE);
  process.exitCode = 2;
} else {
  process.stdout.write(`${JSON.stringify(await run(), undefined, 2)}\n`);
}
