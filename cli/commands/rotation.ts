// rotation: which proxies have followed the mesh's roots, so that the next step of a rotation may begin
// (docs/operations/root-rotation.md).
import type { Command } from 'commander';
import { setTimeout as wait } from 'node:timers/promises';
import { parseDurationMs } from '../../common/env.ts';
import { errorMessage, MeshError } from '../../common/errors.ts';
import { KINDS, objectPath, type KubeObject } from '../../common/kube/resource.ts';
import {
  clusterCommand,
  outputOption,
  SYSTEM_NAMESPACE,
  withCluster,
  type Cluster,
  type GlobalOptions,
} from '../context.ts';
import { formatTable, formatValue, print } from '../output.ts';
import { fetchInPod, isReady, listPods, type PodView } from '../pods.ts';
import { rootProgress } from '../root-progress.ts';
import type { AskedProxy, DumpedSecret, RootProgress } from '../root-progress.ts';

const POLL_MS = 1000;
const WAYPOINTS = 'gateway.networking.k8s.io/gateway-class-name';
const ADMIN = 'http://localhost:15000/config_dump';

interface RotationOptions extends GlobalOptions {
  readonly wait?: string;
  readonly output?: 'json' | 'yaml';
}

/** A proxy's answer; none for a pod that leaves, or left while it was asked: nobody waits for those. */
async function ask(cluster: Cluster, pod: PodView): Promise<AskedProxy | undefined> {
  if (isLeaving(pod)) return undefined;
  const proxy = {
    name: pod.metadata?.name ?? '',
    namespace: pod.metadata?.namespace ?? '',
    node: pod.spec?.nodeName ?? '',
  };
  try {
    const text = await fetchInPod(cluster, pod, { url: ADMIN });
    const { certificates } = JSON.parse(text) as {
      readonly certificates?: readonly DumpedSecret[];
    };
    if (certificates !== undefined) return { ...proxy, certificates };
    return { ...proxy, certificates: { error: 'its config_dump has no certificates' } };
  } catch (err) {
    const now = await cluster.client.get<PodView>({ kind: KINDS.pods, ...proxy });
    if (now === undefined || isLeaving(now)) return undefined;
    return { ...proxy, certificates: { error: errorMessage(err) } };
  }
}

const isLeaving = ({ metadata }: PodView): boolean => metadata?.deletionTimestamp !== undefined;

/** Asks every node proxy and waypoint, those that are not ready too. */
async function look(cluster: Cluster): Promise<RootProgress> {
  const { client } = cluster;
  const path = objectPath(KINDS.configMaps, SYSTEM_NAMESPACE, 'istio-ca-root-cert');
  const { data } = await client.json<KubeObject & { readonly data?: Record<string, string> }>({
    path,
  });
  const bundle = data?.['root-cert.pem'];
  if (bundle === undefined) {
    const name = `${SYSTEM_NAMESPACE}/istio-ca-root-cert`;
    throw new MeshError('no_roots', `ConfigMap ${name} has no root-cert.pem`);
  }
  const pods = [
    ...(await listPods(client, SYSTEM_NAMESPACE, 'app=ztunnel')),
    ...(await listPods(client, undefined, WAYPOINTS)),
  ];
  const running = pods.filter((pod) => isReady(pod) || pod.status?.phase === 'Running');
  const asked = await Promise.all(running.map((pod) => ask(cluster, pod)));
  return rootProgress(
    bundle,
    asked.filter((proxy) => proxy !== undefined),
  );
}

/** The tables: the bundle, then the proxies. */
export function formatProgress({ roots, proxies, isComplete }: RootProgress): string {
  const rootRows = roots.map(({ id, subject, notAfter }, at) => [
    ...[id, at === 0 ? 'signs' : 'is trusted', subject, notAfter],
  ]);
  const proxyRows = proxies.map((proxy) => [
    ...[proxy.name, proxy.namespace, proxy.node],
    `${proxy.current}/${proxy.certificates}`,
    Object.entries(proxy.signedBy)
      .map(([id, count]) => `${id} (${count})`)
      .join(', '),
    proxy.trusts.join(', '),
    proxy.missing.length === 0 ? 'current' : proxy.missing.join('; '),
  ]);
  const verdict = isComplete
    ? 'every proxy has followed: the next step may begin'
    : 'not every proxy has followed: wait before the next step';
  return [
    formatTable(['ROOT', 'ROLE', 'SUBJECT', 'NOT AFTER'], rootRows),
    '',
    formatTable(
      ['PROXY', 'NAMESPACE', 'NODE', 'CURRENT', 'SIGNED BY', 'TRUSTS', 'STATE'],
      proxyRows,
    ),
    '',
    verdict,
  ].join('\n');
}

async function follow(options: RotationOptions): Promise<void> {
  const waitMs = options.wait === undefined ? 0 : parseDurationMs(options.wait);
  if (waitMs === undefined) {
    throw new MeshError('usage', `--wait "${options.wait ?? ''}" is no duration: use 90s or 5m`);
  }
  await withCluster(options, async (cluster) => {
    const deadline = Date.now() + waitMs;
    for (;;) {
      const progress = await look(cluster);
      if (progress.isComplete || Date.now() >= deadline) {
        if (options.output === undefined) print(formatProgress(progress));
        else print(formatValue(progress, options.output));
        if (!progress.isComplete) process.exitCode = 1;
        return;
      }
      const late = progress.proxies.filter(({ missing }) => missing.length > 0);
      process.stderr.write(
        `waiting for ${late.length} of ${progress.proxies.length} proxies: ${late.map(({ name }) => name).join(', ')}\n`,
      );
      await wait(POLL_MS);
    }
  });
}

/** The `rotation` command. */
export function rotationCommand(): Command {
  return clusterCommand(
    'rotation',
    'which proxies trust the roots of the mesh and have certificates under the one that signs (exit 1: not all)',
  )
    .option('-w, --wait <duration>', 'wait so long until all have: 90s, 5m')
    .addOption(outputOption(['json', 'yaml']))
    .action(follow);
}
