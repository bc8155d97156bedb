// Rollouts under load: a new generation of node proxies, then of the waypoint, with a new connection for each request.
// None fails. And kill -9 of the proxy processes under their holders: only what they carried is lost. Control: other
// processes serve afterwards.
import { readFileSync } from 'node:fs';
import { KINDS, type KubeObject, type ResourceKind } from '../../common/kube/resource.ts';
import { isComplete, isReady, type Pod } from '../cluster-api.ts';
import { require, type Bench, type LoadReport, type RunningLoad } from './bench.ts';
import { openLab, setEnrolled, SERVER_URL } from './lab.ts';
import type { Statement } from './statement.ts';

const RESTARTED = 'kubectl.kubernetes.io/restartedAt';
const ROLLOUT_MS = 60_000;
const LOAD_ARGS = ['--rate', '30', '--close'];
const SETTLE_MS = 1500;

interface Rollout {
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
  /** Of its pods. */
  readonly label: string;
  readonly load: (bench: Bench) => Promise<RunningLoad>;
}

const NODE_PROXIES: Rollout = {
  kind: KINDS.daemonSets,
  namespace: 'istio-system',
  name: 'ztunnel',
  label: 'app=ztunnel',
  load: async (bench) => {
    const { client } = await openLab(bench);
    await setEnrolled(bench, true);
    return bench.startLoad(client, [...LOAD_ARGS, `${SERVER_URL}/get`]);
  },
};

const WAYPOINT: Rollout = {
  kind: KINDS.deployments,
  namespace: 'bookinfo',
  name: 'waypoint',
  label: 'gateway.networking.k8s.io/gateway-name=waypoint',
  load: async (bench) =>
    bench.startLoad(await bench.pod('bookinfo', 'curl'), [
      ...LOAD_ARGS,
      'http://reviews:9080/reviews/0',
    ]),
};

const nameOf = (pod: Pod): string => pod.metadata?.name ?? '';

/** What `kubectl rollout restart` does, and `kubectl rollout status` waits for. */
async function restart(bench: Bench, { kind, namespace, name, label }: Rollout): Promise<void> {
  const before = new Set((await bench.api.pods(namespace, label)).map(nameOf));
  require(before.size > 0, 'nothing to roll out');
  const template = { metadata: { annotations: { [RESTARTED]: new Date().toISOString() } } };
  const ref = { kind, namespace, name };
  await bench.api.client.mergePatch(ref, { spec: { template } });
  await bench.until(
    'the new generation',
    async () => {
      const [workload] = (await bench.api.list<KubeObject>(kind, namespace)).filter(
        ({ metadata }) => metadata?.name === name,
      );
      const pods = await bench.api.pods(namespace, label);
      const isNew = pods.length > 0 && pods.every((pod) => !before.has(nameOf(pod)));
      return workload !== undefined && isComplete(workload) && isNew && pods.every(isReady)
        ? true
        : undefined;
    },
    ROLLOUT_MS,
  );
}

/** Runs the work under a load, which ends with it, also when it fails. */
async function underLoad(
  bench: Bench,
  { load: start }: Rollout,
  work: () => Promise<void>,
): Promise<LoadReport> {
  const load = await start(bench);
  try {
    await bench.sleep(SETTLE_MS);
    await work();
    // Old processes still drain, new ones have just begun.
    await bench.sleep(4 * SETTLE_MS);
  } catch (err) {
    await load.stop();
    throw err;
  }
  return load.stop();
}

function statement(name: string, rollout: Rollout): Statement {
  return {
    name,
    async verify(bench) {
      const { sent, failed, failures } = await underLoad(bench, rollout, () =>
        restart(bench, rollout),
      );
      require(sent > 30, 'the load did not run');
      require(failed === 0, `${failed} of ${sent} failed: ${failures[0]?.error ?? ''}`);
      return `${sent} requests, each on a connection of its own, none failed`;
    },
  };
}

/** The proxies that a pod's holder has started. */
function proxiesOf(bench: Bench, pod: Pod): number[] {
  const holder = bench.pidOf(pod);
  const children = readFileSync(`/proc/${holder}/task/${holder}/children`, 'utf8').trim();
  return children === '' ? [] : children.split(' ').map(Number);
}

const killProxies: Statement = {
  name: 'kill -9 of the proxies under their holders: new connections wait',
  async verify(bench) {
    let at = 0;
    const { sent, ok, failed, failures, lastFailureAt } = await underLoad(
      bench,
      NODE_PROXIES,
      async () => {
        const pods = await bench.api.pods('istio-system', 'app=ztunnel');
        const old = pods.flatMap((pod) => proxiesOf(bench, pod));
        require(old.length >= pods.length, 'no proxy runs under a holder');
        at = Date.now();
        for (const pid of old) process.kill(pid, 'SIGKILL');
        await bench.until('another proxy in each pod', () => {
          const now = pods.map((pod) => proxiesOf(bench, pod));
          const isNew = now.every((pids) => pids.some((pid) => !old.includes(pid)));
          return Promise.resolve(isNew ? true : undefined);
        });
      },
    );
    require(ok > 30, 'the load did not run');
    const refused = failures.filter(({ error }) => error.includes('REFUSED'));
    require(refused.length === 0, `${refused.length} of ${sent} were refused`);
    const lastMs = failed === 0 ? 0 : lastFailureAt - at;
    require(lastMs < 1000, `requests still failed after ${lastMs} ms: ${failures[0]?.error ?? ''}`);
    return `${failed} of ${sent} were on their way and lost, none was refused`;
  },
};

export const rollouts: readonly Statement[] = [
  statement('rollout of the node proxies: no connection fails', NODE_PROXIES),
  statement('rollout of the waypoint: no request fails', WAYPOINT),
  killProxies,
];
