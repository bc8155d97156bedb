// Kill -9 under load. Of a node proxy or the waypoint: requests succeed again within 10 s by themselves; of the
// control plane: none fails. Control: the killed process is gone and another has taken its place.
import { isReady, type Pod } from '../cluster-api.ts';
import { require, type Bench, type LoadReport } from './bench.ts';
import { openLab, setEnrolled, SERVER_URL } from './lab.ts';
import type { Statement } from './statement.ts';

const RECOVERY_MS = 10_000;

interface Kill {
  readonly what: string;
  readonly victims: (bench: Bench) => Promise<readonly Pod[]>;
  /** The pod that sends, and what it asks. */
  readonly client: (bench: Bench) => Promise<Pod>;
  readonly url: string;
}

async function waitReplaced(bench: Bench, killed: ReadonlyMap<string, number>): Promise<void> {
  await bench.until('the new process', async () => {
    const pods = (await bench.api.pods()).filter(({ metadata }) =>
      killed.has(metadata?.name ?? ''),
    );
    const isBack = pods.every(
      (pod) => isReady(pod) && bench.pidOf(pod) !== killed.get(pod.metadata?.name ?? ''),
    );
    return pods.length > 0 && isBack ? true : undefined;
  });
}

/** Kills under load; returns the report and when it happened. */
async function killUnderLoad(
  bench: Bench,
  { victims, client, url }: Kill,
): Promise<{ readonly report: LoadReport; readonly at: number }> {
  const from = await client(bench);
  const load = bench.startLoad(from, ['--rate', '30', '--close', url]);
  await bench.sleep(1500);
  const pods = await victims(bench);
  require(pods.length > 0, 'nothing to kill');
  const killed = new Map(pods.map((pod) => [pod.metadata?.name ?? '', bench.pidOf(pod)]));
  const at = Date.now();
  for (const pid of killed.values()) process.kill(pid, 'SIGKILL');
  await bench.sleep(RECOVERY_MS + 3000);
  const report = await load.stop();
  await waitReplaced(bench, killed);
  require(report.ok > 30, 'the load did not run');
  return { report, at };
}

function statement(name: string, kill: Kill, mayFail: boolean): Statement {
  return {
    name,
    async verify(bench) {
      const { report, at } = await killUnderLoad(bench, kill);
      const first = report.failures[0]?.error ?? '';
      if (!mayFail) {
        require(report.failed === 0, `${report.failed} of ${report.sent} failed: ${first}`);
        return `${report.sent} requests, none failed`;
      }
      const lastMs = report.lastFailureAt - at;
      require(lastMs <= RECOVERY_MS, `requests still failed after ${lastMs} ms: ${first}`);
      const last = Math.max(0, lastMs) / 1000;
      return `${report.failed} of ${report.sent} failed, the last ${last.toFixed(1)} s after the kill`;
    },
  };
}

const labClient = async (bench: Bench): Promise<Pod> => {
  const { client } = await openLab(bench);
  await setEnrolled(bench, true);
  return client;
};
const curl = (bench: Bench): Promise<Pod> => bench.pod('bookinfo', 'curl');
const REVIEWS = 'http://reviews:9080/reviews/0';

export const kills: readonly Statement[] = [
  statement(
    'kill -9 of the control plane: no request fails',
    {
      what: 'istiod',
      victims: (bench) => bench.api.pods('istio-system', 'app=istiod'),
      client: curl,
      url: REVIEWS,
    },
    false,
  ),
  statement(
    'kill -9 of the waypoint: requests succeed again within 10 s',
    {
      what: 'waypoint',
      victims: (bench) =>
        bench.api.pods('bookinfo', 'gateway.networking.k8s.io/gateway-name=waypoint'),
      client: curl,
      url: REVIEWS,
    },
    true,
  ),
  statement(
    'kill -9 of the node proxies: requests succeed again within 10 s',
    {
      what: 'ztunnel',
      victims: (bench) => bench.api.pods('istio-system', 'app=ztunnel'),
      client: labClient,
      url: `${SERVER_URL}/get`,
    },
    true,
  ),
];
