// status: is the mesh up, and what is in it. Exit code 1 when a part of it is not ready.
import type { Command } from 'commander';
import type { KubeClient, KubeList } from '../../common/kube/client.ts';
import { collectionPath, KINDS, type KubeObject } from '../../common/kube/resource.ts';
import {
  clusterCommand,
  outputOption,
  SYSTEM_NAMESPACE,
  withCluster,
  type GlobalOptions,
} from '../context.ts';
import { formatTable, formatValue, print } from '../output.ts';
import { isReady, listPods, type PodView } from '../pods.ts';

const MODE = 'istio.io/dataplane-mode';
const GATEWAY_NAME = 'gateway.networking.k8s.io/gateway-name';
const REDIRECTION = 'ambient.istio.io/redirection';
const COMPONENTS: ReadonlyArray<readonly [string, string]> = [
  ['control plane', 'app=istiod'],
  ['node agent', 'k8s-app=istio-cni-node'],
  ['ztunnel', 'app=ztunnel'],
];

/** One program of the mesh. */
export interface ComponentStatus {
  readonly component: string;
  readonly ready: number;
  readonly total: number;
}

/** One namespace that is in the mesh, or has pods that are. */
export interface NamespaceStatus {
  readonly namespace: string;
  readonly mode: string;
  readonly waypoint: string;
  readonly pods: number;
  readonly enrolled: number;
  /** Pods that asked to stay out. */
  readonly optedOut: readonly string[];
  readonly notEnrolled: readonly string[];
}

/** Sums up namespaces from their labels and pods. Pods that cannot be captured (host network) and waypoints, which
 * speak the mesh's protocol themselves, do not count. */
export function summarizeNamespaces(
  namespaces: readonly KubeObject[],
  pods: readonly PodView[],
): NamespaceStatus[] {
  return namespaces.flatMap((object) => {
    const namespace = object.metadata?.name ?? '';
    const labels = object.metadata?.labels ?? {};
    const own = pods.filter(
      (pod) =>
        pod.metadata?.namespace === namespace &&
        pod.spec?.hostNetwork !== true &&
        pod.metadata.labels?.[GATEWAY_NAME] === undefined,
    );
    const enrolled = own.filter((pod) => pod.metadata?.annotations?.[REDIRECTION] === 'enabled');
    const mode = labels[MODE] ?? '';
    if (mode === '' && enrolled.length === 0) return [];
    const outside = own.filter((pod) => !enrolled.includes(pod));
    const isOptedOut = (pod: PodView): boolean => pod.metadata?.labels?.[MODE] === 'none';
    const name = (pod: PodView): string => pod.metadata?.name ?? '';
    return [
      {
        namespace,
        mode,
        waypoint: labels['istio.io/use-waypoint'] ?? 'none',
        pods: own.length,
        enrolled: enrolled.length,
        optedOut: outside.filter(isOptedOut).map(name),
        notEnrolled: outside.filter((pod) => !isOptedOut(pod)).map(name),
      },
    ];
  });
}

async function componentStatus(client: KubeClient): Promise<ComponentStatus[]> {
  return Promise.all(
    COMPONENTS.map(async ([component, selector]) => {
      const pods = await listPods(client, SYSTEM_NAMESPACE, selector);
      return { component, ready: pods.filter(isReady).length, total: pods.length };
    }),
  );
}

/** The `status` command. */
export function statusCommand(): Command {
  return clusterCommand('status', 'is the mesh up, and what is in it')
    .addOption(outputOption(['json', 'yaml']))
    .action((options: GlobalOptions & { output?: 'json' | 'yaml' }) =>
      withCluster(options, async ({ client }) => {
        const components = await componentStatus(client);
        const path = collectionPath(KINDS.namespaces);
        const { items = [] } = await client.json<KubeList<KubeObject>>({ path });
        const namespaces = summarizeNamespaces(items, await listPods(client, undefined));
        if (components.some((each) => each.total === 0 || each.ready < each.total))
          process.exitCode = 1;
        if (options.output !== undefined)
          print(formatValue({ components, namespaces }, options.output));
        else printStatus(components, namespaces);
      }),
    );
}

function printStatus(
  components: readonly ComponentStatus[],
  namespaces: readonly NamespaceStatus[],
): void {
  print(
    formatTable(
      ['COMPONENT', 'READY'],
      components.map((each) => [
        each.component,
        each.total === 0 ? 'not installed' : `${each.ready}/${each.total}`,
      ]),
    ),
  );
  print('');
  if (namespaces.length === 0) {
    print(
      'No namespace is in the mesh. To add one: ambientctl label namespace NAME istio.io/dataplane-mode=ambient',
    );
    return;
  }
  const rows = namespaces.map((each) => [
    each.namespace,
    each.mode === '' ? '-' : each.mode,
    each.waypoint,
    `${each.enrolled}/${each.pods}`,
    each.optedOut.join(',') || '-',
    each.notEnrolled.join(',') || '-',
  ]);
  print(
    formatTable(['NAMESPACE', 'MODE', 'WAYPOINT', 'ENROLLED', 'OPTED OUT', 'NOT ENROLLED'], rows),
  );
}
