// Finds the pods a person means (POD, pod/POD, deploy/NAME, ds/NAME, or all of a label), and asks the admin ports
// inside them.
import { Writable } from 'node:stream';
import { MeshError } from '../common/errors.ts';
import type { KubeClient, KubeList } from '../common/kube/client.ts';
import { collectionPath, KINDS, objectPath, type KubeObject } from '../common/kube/resource.ts';
import type { Cluster } from './context.ts';

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

const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';
const OWNERS: Readonly<Record<string, string>> = {
  deploy: 'deployments',
  deployment: 'deployments',
  deployments: 'deployments',
  'deployment.apps': 'deployments',
  ds: 'daemonsets',
  daemonset: 'daemonsets',
  daemonsets: 'daemonsets',
  'daemonset.apps': 'daemonsets',
  sts: 'statefulsets',
  statefulset: 'statefulsets',
  statefulsets: 'statefulsets',
};

/** Pods of a namespace (or all) with the given labels. */
export async function listPods(
  client: KubeClient,
  namespace: string | undefined,
  labelSelector?: string,
): Promise<readonly PodView[]> {
  const path = collectionPath(KINDS.pods, namespace);
  return (await client.json<KubeList<PodView>>({ path, query: { labelSelector } })).items ?? [];
}

/** True when the pod's Ready condition is True. */
export function isReady(pod: PodView): boolean {
  return (
    pod.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') ?? false
  );
}

/** The container meant when none is named: the annotated one, else the first. */
export function defaultContainer(pod: PodView): string {
  return pod.metadata?.annotations?.[DEFAULT_CONTAINER] ?? pod.spec?.containers?.[0]?.name ?? '';
}

/** One pod by what a person typed; of several, a ready one. */
export async function findPod(
  client: KubeClient,
  namespace: string,
  word: string,
): Promise<PodView> {
  const [type = '', name = ''] = word.includes('/') ? word.split('/') : ['pod', word];
  if (type === 'pod' || type === 'pods' || type === 'po') {
    return client.json<PodView>({ path: objectPath(KINDS.pods, namespace, name) });
  }
  const plural = OWNERS[type];
  if (plural === undefined)
    throw new MeshError('usage', `"${word}" names no pod: use POD, deploy/NAME or ds/NAME`);
  const path = objectPath({ ...KINDS.deployments, plural }, namespace, name);
  const labels = (await client.json<Workload>({ path })).spec?.selector?.matchLabels ?? {};
  const selector = Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
  const pods = await listPods(client, namespace, selector);
  const found = pods.find(isReady) ?? pods[0];
  if (found === undefined) throw new MeshError('no_pod', `${word} has no pods`);
  return found;
}

/** A request to a port on a pod's localhost. */
export interface PodRequest {
  readonly url: string;
  /** GET without it. */
  readonly method?: string;
}

const FETCH = `const [url, method] = process.argv.slice(1);
fetch(url, { method }).then(async (r) => {
  process.stdout.write(r.status + ' ' + await r.text());
}, (e) => { console.error(String(e.cause ?? e)); process.exit(1); });`;

/** Asks a port on a pod's localhost, with the Node its image has; the answer's text. Throws for a status that is no
 * success, with the answer. */
export async function fetchInPod(
  { connection }: Cluster,
  pod: PodView,
  { url, method = 'GET' }: PodRequest,
): Promise<string> {
  const { execInPod } = await import('../common/kube/exec.ts');
  const chunks: Buffer[] = [];
  const errors: Buffer[] = [];
  const code = await execInPod(
    connection,
    {
      namespace: pod.metadata?.namespace ?? '',
      pod: pod.metadata?.name ?? '',
      container: defaultContainer(pod),
      command: ['node', '-e', FETCH, url, method],
    },
    { stdout: collector(chunks), stderr: collector(errors), stdin: null, isTty: false },
  );
  const text = Buffer.concat(chunks).toString('utf8');
  const status = Number(text.slice(0, 3));
  const body = text.slice(4);
  if (code === 0 && status >= 200 && status < 300) return body;
  const name = pod.metadata?.name ?? '';
  if (code !== 0) {
    const why = Buffer.concat(errors).toString('utf8').trim() || `ended with exit code ${code}`;
    throw new MeshError('fetch', `cannot ask ${name} at ${url}: ${why}`);
  }
  throw new MeshError('fetch', `${name} answered ${status}: ${refusal(body)}`);
}

/** What an answer that is no success says: its `error` where it is JSON, else its text. */
function refusal(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: unknown };
    if (typeof error === 'string') return error;
  } catch {
    // Plain text.
  }
  return body.trim();
}

function collector(chunks: Buffer[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done): void {
      chunks.push(chunk);
      done();
    },
  });
}
