// Finds the pods a person means: POD, pod/POD, deploy/NAME, ds/NAME, or all of a label.
import { MeshError } from '../common/errors.ts';
import type { KubeObject, RestClient } from '../common/kube/rest-client.ts';

/** The fields of a pod the command line reads. */
export interface PodView extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string;
    readonly hostNetwork?: boolean;
    readonly serviceAccountName?: string;
    readonly containers?: readonly { readonly name: string }[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

interface Workload extends KubeObject {
  readonly spec?: {
    readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  };
}

const OWNERS: Readonly<Record<string, string>> = {
  deploy: 'deployments',
  deployment: 'deployments',
  deployments: 'deployments',
  ds: 'daemonsets',
  daemonset: 'daemonsets',
  sts: 'statefulsets',
  statefulset: 'statefulsets',
};

/** Pods of a namespace (or all) with the given labels. */
export async function listPods(
  client: RestClient,
  namespace: string | undefined,
  labelSelector?: string,
): Promise<readonly PodView[]> {
  const path = namespace === undefined ? '/api/v1/pods' : `/api/v1/namespaces/${namespace}/pods`;
  const query = labelSelector === undefined ? {} : { labelSelector };
  return (await client.json<{ items: PodView[] }>({ path, query })).items;
}

/** True when the pod's Ready condition is True. */
export function isReady(pod: PodView): boolean {
  return (
    pod.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') ?? false
  );
}

/** One pod by what a person typed; of several, a ready one. */
export async function findPod(
  client: RestClient,
  namespace: string,
  word: string,
): Promise<PodView> {
  const [type, name] = word.includes('/') ? word.split('/') : ['pod', word];
  if (type === 'pod' || type === 'pods' || type === 'po') {
    return client.json<PodView>({
      path: `/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(name ?? '')}`,
    });
  }
  const plural = OWNERS[type ?? ''];
  if (plural === undefined)
    throw new MeshError('usage', `"${word}" names no pod: use POD, deploy/NAME or ds/NAME`);
  const path = `/apis/apps/v1/namespaces/${namespace}/${plural}/${encodeURIComponent(name ?? '')}`;
  const labels = (await client.json<Workload>({ path })).spec?.selector?.matchLabels ?? {};
  const selector = Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
  const pods = await listPods(client, namespace, selector);
  const found = pods.find(isReady) ?? pods[0];
  if (found === undefined) throw new MeshError('no_pod', `${word} has no pods`);
  return found;
}

/** Fetches a URL from inside a pod (admin ports listen on its localhost) with the Node its image has. */
export async function fetchInPod(client: RestClient, pod: PodView, url: string): Promise<string> {
  const chunks: string[] = [];
  const { Writable } = await import('node:stream');
  const collect = (): InstanceType<typeof Writable> =>
    new Writable({
      write(chunk: Buffer, _encoding, done): void {
        chunks.push(chunk.toString());
        done();
      },
    });
  const script =
    'fetch(process.argv[1]).then(r=>r.text()).then(t=>process.stdout.write(t),e=>{console.error(String(e.cause??e));process.exit(1)})';
  const code = await client.exec(
    {
      namespace: pod.metadata?.namespace ?? '',
      pod: pod.metadata?.name ?? '',
      container: pod.spec?.containers?.[0]?.name ?? '',
      command: ['node', '-e', script, url],
    },
    { stdout: collect(), stderr: collect(), stdin: null, tty: false },
  );
  if (code !== 0)
    throw new MeshError('fetch', `${pod.metadata?.name ?? ''}: ${url}: ${chunks.join('').trim()}`);
  return chunks.join('');
}
