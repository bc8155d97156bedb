// `npm run bench`: our proxies beside Envoy and the path without a proxy, in alternation, with real tools.
// Prints a table, or one JSON object with --json. Never asserts a time: machines are shared and noisy.
import type { ChildProcess } from 'node:child_process';
import { parseArgs } from 'node:util';
import { oneOf, runCommand, wholeNumber } from '../../common/command-line.ts';
import { startEnvoyPair, startEnvoyWaypoint } from './envoy.ts';
import { HTTP_LOADS, STREAM_LOADS, type CaseName, type Load } from './load.ts';
import { startMesh, startMeshWaypoint } from './mesh.ts';
import { createRoot, type CertFiles } from './pki.ts';
import { buildResult, formatTable, type CaseResult, type Sample, type Variant } from './report.ts';
import { ADDRESS, SERVICE_VIP, Topology } from './topology.ts';
import { ensureTools, findEnvoy, run } from './tools.ts';
import { cpuSeconds, residentMb } from './usage.ts';

const PATH_NAMES = ['across', 'same_node', 'waypoint'] as const;
type PathName = (typeof PATH_NAMES)[number];

const CASES: readonly CaseName[] = [...STREAM_LOADS, ...HTTP_LOADS].flatMap(({ cases }) => cases);

const USAGE = `usage: npm run bench -- [options]
Measures streams, requests, connections and latency in alternation: without a proxy, through the mesh, through Envoy. Needs root.

  --path PATH     one of ${PATH_NAMES.join(', ')} (default: all; waypoint has no streams)
  --only A,B      only these cases (default: all): ${CASES.join(', ')}
  --seconds N     each run of a load (default 4)
  --rounds N      alternations that count, after one that does not (default 3)
  --sight         the mesh looks at HTTP on every connection, and its peer is the same mesh that does not
  --json          one JSON object instead of a table
  --help`;

/** One path through the network: across nodes, on one node, or through a waypoint. */
interface Path {
  readonly name: PathName;
  /** Of the names of its cases. */
  readonly suffix: '' | `_${PathName}`;
  readonly loads: readonly Load[];
  /** Builds a variant; returns what to dial and the proxies to account. */
  open(variant: Variant, topology: Topology, envoy: string, root: CertFiles): Promise<Opened>;
}

interface Opened {
  readonly target: string;
  readonly proxies: readonly ChildProcess[];
}

const PATHS: readonly Path[] = [
  {
    name: 'across',
    suffix: '',
    loads: [...STREAM_LOADS, ...HTTP_LOADS],
    async open(variant, topology, envoy, root) {
      const target = ADDRESS.server;
      if (variant === 'direct') return { target, proxies: [] };
      if (variant === 'peer')
        return { target, proxies: startEnvoyPair(envoy, topology, 'server', root) };
      return { target, proxies: await startMesh(topology, 'across', root) };
    },
  },
  {
    name: 'same_node',
    suffix: '_same_node',
    loads: [...STREAM_LOADS, ...HTTP_LOADS],
    async open(variant, topology, envoy, root) {
      const target = ADDRESS.near;
      if (variant === 'direct') return { target, proxies: [] };
      if (variant === 'peer')
        return { target, proxies: startEnvoyPair(envoy, topology, 'near', root) };
      return { target, proxies: await startMesh(topology, 'same_node', root) };
    },
  },
  {
    name: 'waypoint',
    suffix: '_waypoint',
    loads: HTTP_LOADS,
    async open(variant, topology, envoy, root) {
      if (variant === 'direct') return { target: ADDRESS.server, proxies: [] };
      await startMesh(topology, 'waypoint', root);
      // Only the waypoint itself is accounted: the node proxies are the same in both variants.
      const proxy =
        variant === 'peer'
          ? startEnvoyWaypoint(envoy, topology, root)
          : startMeshWaypoint(topology, root);
      return { target: SERVICE_VIP, proxies: [proxy] };
    },
  },
];

/** What looking at HTTP costs: the mesh with it, beside the mesh without it. */
const SIGHT_PATHS: readonly Path[] = (['across', 'same_node'] as const).map((name): Path => ({
  name,
  suffix: name === 'across' ? '' : `_${name}`,
  loads: [...STREAM_LOADS, ...HTTP_LOADS],
  async open(variant, topology, _envoy, root) {
    const target = name === 'across' ? ADDRESS.server : ADDRESS.near;
    if (variant === 'direct') return { target, proxies: [] };
    return { target, proxies: await startMesh(topology, name, root, variant === 'mesh') };
  },
}));

function progress(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

/** Waits until the server answers through whatever is in between. */
async function waitReachable(topology: Topology, target: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      run(
        'ip',
        topology.inPod('client', [
          'curl',
          '-sf',
          '-m',
          '2',
          '-o',
          '/dev/null',
          `http://${target}:8080/`,
        ]),
      );
      return;
    } catch (err) {
      if (Date.now() > deadline) throw err;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function measure(
  load: Load,
  topology: Topology,
  opened: Opened,
  seconds: number,
): Promise<Map<CaseName, Sample>> {
  const before = cpuSeconds(opened.proxies);
  const { values, amount } = await load.run(topology, opened.target, seconds);
  const cpuSec = cpuSeconds(opened.proxies) - before;
  const memory = residentMb(opened.proxies);
  return new Map(
    load.cases.map((name) => [
      name,
      { value: values[name] ?? NaN, cpuSec, amount, residentMb: memory },
    ]),
  );
}

interface Options {
  readonly seconds: number;
  readonly rounds: number;
  readonly only: ReadonlySet<string>;
  readonly variants: readonly Variant[];
  readonly envoy: string | undefined;
}

async function benchPath(path: Path, options: Options): Promise<Record<string, CaseResult>> {
  const { variants } = options;
  const topologies = new Map<Variant, Topology>();
  const opened = new Map<Variant, Opened>();
  const results: Record<string, CaseResult> = {};
  try {
    for (const variant of variants) {
      const topology = new Topology(`${variant}${path.suffix}`);
      topologies.set(variant, topology);
      opened.set(
        variant,
        await path.open(variant, topology, options.envoy ?? '', createRoot(topology.dir)),
      );
      await waitReachable(topology, opened.get(variant)?.target ?? '');
    }
    for (const load of path.loads) {
      if (options.only.size > 0 && !load.cases.some((name) => options.only.has(name))) continue;
      const samples = await alternate(load, variants, topologies, opened, options);
      for (const name of load.cases) {
        const of = (variant: Variant): Sample[] =>
          (samples.get(variant) ?? []).flatMap((sample) => sample.get(name) ?? []);
        results[`${name}${path.suffix}`] = buildResult(name, {
          direct: of('direct'),
          mesh: of('mesh'),
          peer: of('peer'),
        });
      }
    }
  } finally {
    for (const topology of topologies.values()) await topology.close();
  }
  return results;
}

async function alternate(
  load: Load,
  variants: readonly Variant[],
  topologies: ReadonlyMap<Variant, Topology>,
  opened: ReadonlyMap<Variant, Opened>,
  options: Options,
): Promise<Map<Variant, Map<CaseName, Sample>[]>> {
  const samples = new Map<Variant, Map<CaseName, Sample>[]>(
    variants.map((variant) => [variant, []]),
  );
  // Round 0 does not count: proxies live for weeks, and are measured warm (compiled code, pooled connections).
  for (let round = 0; round <= options.rounds; round++) {
    for (const variant of variants) {
      const topology = topologies.get(variant);
      const target = opened.get(variant);
      if (topology === undefined || target === undefined) continue;
      const sample = await measure(load, topology, target, options.seconds);
      if (round > 0) samples.get(variant)?.push(sample);
      const shown = [...sample]
        .map(([name, { value }]) => `${name} ${value.toPrecision(4)}`)
        .join(', ');
      progress(
        `${topology.name.replace(/^amb-bench-\d+-/, '')} ${round === 0 ? 'warm-up' : `round ${round}`}: ${shown}`,
      );
    }
  }
  return samples;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '4' },
      rounds: { type: 'string', default: '3' },
      only: { type: 'string' },
      path: { type: 'string' },
      sight: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const paths = values.path === undefined ? PATH_NAMES : [oneOf('path', values.path, PATH_NAMES)];
  const only = values.only?.split(',').map((name) => oneOf('only', name, CASES));
  const seconds = wholeNumber('seconds', values.seconds);
  const rounds = wholeNumber('rounds', values.rounds);
  ensureTools();
  const envoy = findEnvoy('.ambient/bench/envoy');
  const hasPeer = values.sight || envoy !== undefined;
  if (!hasPeer) progress('no Envoy binary: the peer is missing, and this run counts as failed');
  const variants: readonly Variant[] = hasPeer ? ['direct', 'mesh', 'peer'] : ['direct', 'mesh'];
  const options: Options = { seconds, rounds, only: new Set(only), variants, envoy };
  const results: Record<string, CaseResult> = {};
  for (const path of (values.sight ? SIGHT_PATHS : PATHS).filter(({ name }) =>
    paths.includes(name),
  ))
    Object.assign(results, await benchPath(path, options));
  process.stdout.write(`${values.json ? JSON.stringify(results) : formatTable(results)}\n`);
  return hasPeer ? 0 : 1;
}

await runCommand('npm run bench', main);
