// status: is the mesh up, and what is in it. Exit code 1 when a part of it is not ready.
import type { Command } from 'commander';
import type { KubeObject, RestClient } from '../../common/kube/rest-client.ts';
import { clusterCommand, openCluster, outputOption, type GlobalOptions } from '../context.ts';
import { formatTable, formatValue, print } from '../output.ts';
import { isReady, listPods, type PodView } from '../pods.ts';

const SYSTEM_NAMESPACE = 'istio-system';
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
  readonly notEnrolled: readonly string[];
}

/** Sums up namespaces from their labels and pods. Pods that cannot be captured (host network) do not count. */
export function summarizeNamespaces(
  namespaces: readonly KubeObject[],
  pods: readonly PodView[],
): NamespaceStatus[] {
  return namespaces.flatMap((object) => {
    const namespace = object.metadata?.name ?? '';
    const labels = object.metadata?.labels ?? {};
    const own = pods.filter(
      (pod) => pod.metadata?.namespace === namespace && pod.spec?.hostNetwork !== true,
    );
    const enrolled = own.filter((pod) => pod.metadata?.annotations?.[REDIRECTION] === 'enabled');
    const mode = labels['istio.io/dataplane-mode'] ?? '';
    if (mode === '' && enrolled.length === 0) return [];
    const notEnrolled = own
      .filter((pod) => !enrolled.includes(pod))
      .map((pod) => pod.metadata?.name ?? '');
    return [
      {
        namespace,
        mode,
        waypoint: labels['istio.io/use-waypoint'] ?? 'none',
        pods: own.length,
        enrolled: enrolled.length,
        notEnrolled,
      },
    ];
  });
}

async function componentStatus(client: RestClient): Promise<ComponentStatus[]> {
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
    .action(async (options: GlobalOptions & { output?: 'json' | 'yaml' }) => {
      const client = openCluster(options);
      try {
        const components = await componentStatus(client);
        const { items } = await client.json<{ items: KubeObject[] }>({
          path: '/api/v1/namespaces',
        });
        const namespaces = summarizeNamespaces(items, await listPods(client, undefined));
        if (components.some((each) => each.total === 0 || each.ready < each.total))
          process.exitCode = 1;
        if (options.output !== undefined) {
          print(formatValue({ components, namespaces }, options.output));
          return;
        }
        printStatus(components, namespaces);
      } finally {
        client.close();
      }
    });
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
    each.notEnrolled.join(',') || '-',
  ]);
  print(formatTable(['NAMESPACE', 'MODE', 'WAYPOINT', 'ENROLLED', 'NOT ENROLLED'], rows));
}
