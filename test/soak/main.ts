// `npm run soak`: what takes too long, or depends too much on the machine, for `npm test`. Needs root. Prints JSON; numbers
// that matter are kept in docs/performance.md. Without a name: the long mixed run.
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { oneOf, runCommand, usageError, wholeNumber } from '../../common/command-line.ts';
import { TRANSFER_PATHS, measureChecksum } from './checksum.ts';
import { drawCurves, measureCurves } from './curve.ts';
import type { Curves } from './curve.ts';
import { FAIRNESS_SETUPS, measureFairness } from './fairness.ts';
import { measureIdle } from './idle.ts';
import { measureMemory } from './memory.ts';
import { runMixed } from './mixed.ts';
import { measureWorkloads } from './workloads.ts';

const USAGE = `usage: npm run soak -- [RUN] [options]

Each RUN prints JSON; all but plot need root. Without a name: mixed.

mixed      mixed load and changes; exit 1 unless memory, descriptors and threads stay flat
             --minutes N      (default 60)
             --out FILE       draws it, as SVG (default: not drawn)
             --nice           the load gives way to others on the machine (default: it does not)
fairness   a quiet pod beside one that opens very many connections
             --rate N         connections a second of the other pod (default 2000)
             --seconds N      of each setup (default 10)
             --setup SETUP    one of ${FAIRNESS_SETUPS.join(', ')}: through the mesh, without it as a control, with the proxies on
                              a processor apart (default: all)
             --favour         real time for what is measured, where others use the machine (default: not)
memory     idle connections, slow readers, a scan, workloads
             --connections N  idle ones (default 10000)
             --workloads N    (default 100000)
workloads  how long workloads take to load, and what requests feel meanwhile
             --workloads N    (default 50000)
             --seconds N      of requests before and after (default 10)
idle       processes that do nothing
checksum   one connection up and down with checksums; exit 1 unless they are right
             --gb N           each way (default 10)
             --path PATH      one of ${TRANSFER_PATHS.join(', ')} (default same_node)
curve      over connections and workloads: docs/curves.json and docs/curves.svg
plot       docs/curves.svg from docs/curves.json
`;

const OPTIONS = {
  help: { type: 'boolean', default: false },
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
} as const;

function readCommandLine() {
  return parseArgs({ allowPositionals: true, options: OPTIONS });
}

type Values = ReturnType<typeof readCommandLine>['values'];

const CURVES = 'docs/curves.json';
const CURVES_SVG = 'docs/curves.svg';

async function mixed(values: Values): Promise<unknown> {
  const { svg, ...report } = await runMixed(wholeNumber('minutes', values.minutes), values.nice);
  if (values.out !== undefined) writeFileSync(values.out, svg);
  if (!report.isFlat) process.exitCode = 1;
  return report;
}

async function checksum(values: Values): Promise<unknown> {
  const path = oneOf('path', values.path, TRANSFER_PATHS);
  const report = await measureChecksum(path, wholeNumber('gb', values.gb));
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

function fairness(values: Values): unknown {
  const { setup } = values;
  return measureFairness({
    stormRate: wholeNumber('rate', values.rate),
    seconds: wholeNumber('seconds', values.seconds),
    isFavoured: values.favour,
    setups: setup === undefined ? FAIRNESS_SETUPS : [oneOf('setup', setup, FAIRNESS_SETUPS)],
  });
}

const RUNS: ReadonlyMap<string, (values: Values) => unknown> = new Map([
  ['mixed', mixed],
  ['fairness', fairness],
  [
    'memory',
    ({ connections, workloads = '100000' }) =>
      measureMemory({
        idleConnections: wholeNumber('connections', connections),
        openStreams: 5000,
        slowReaders: 50,
        scannedAddresses: 65_536,
        workloads: wholeNumber('workloads', workloads),
      }),
  ],
  [
    'workloads',
    ({ seconds, workloads = '50000' }) =>
      measureWorkloads(wholeNumber('workloads', workloads), wholeNumber('seconds', seconds)),
  ],
  ['idle', measureIdle],
  ['checksum', checksum],
  ['curve', curve],
  ['plot', plot],
]);

await runCommand('npm run soak', async () => {
  const { values, positionals } = readCommandLine();
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [name = 'mixed', ...more] = positionals;
  const run = RUNS.get(name);
  if (run === undefined || more.length > 0)
    throw usageError(`one run of ${[...RUNS.keys()].join(', ')}, not "${positionals.join(' ')}"`);
  process.stdout.write(`${JSON.stringify(await run(values), undefined, 2)}\n`);
  return Number(process.exitCode ?? 0);
});
