// What the start needs of the Kubernetes API: apply manifests in order, read pods and workloads, wait.
import { sleep, systemClock } from '../common/clock.ts';
import { MeshError } from '../common/errors.ts';
import { isKubeStatus, KubeClient, type KubeList } from '../common/kube/client.ts';
import { loadConnection } from '../common/kube/connection.ts';
import { readManifest } from '../common/kube/manifest.ts';
import {
  KINDS,
  collectionPath,
  type KubeObject,
  type ResourceKind,
} from '../common/kube/resource.ts';

const FIELD_MANAGER = 'ambient-mesh-start';
const POLL_MS = 150;

interface ApiResourceList {
  readonly resources: readonly {
    readonly name: string;
    readonly namespaced: boolean;
    readonly kind: string;
  }[];
}

export interface Pod extends KubeObject {
  readonly spec?: { readonly nodeName?: string };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly name: string;
      readonly containerID?: string;
      readonly restartCount: number;
      readonly state?: {
        readonly waiting?: { readonly reason?: string; readonly message?: string };
      };
    }[];
  };
}

export interface Workload extends KubeObject {
  readonly spec?: { readonly replicas?: number };
  readonly status?: {
    readonly readyReplicas?: number;
    readonly updatedReplicas?: number;
    readonly observedGeneration?: number;
    readonly numberReady?: number;
    readonly desiredNumberScheduled?: number;
    readonly updatedNumberScheduled?: number;
  };
}

/** The objects of a file, or of all files below a folder, in the order of their names. */
export function readManifests(path: string): KubeObject[] {
  return readManifest(path, true).map(({ object }) => object);
}

/** Whether all replicas of a Deployment or DaemonSet are ready. */
export function isComplete({ metadata, spec, status }: Workload): boolean {
  if (status === undefined || (status.observedGeneration ?? 0) < (metadata?.generation ?? 0)) {
    return false;
  }
  if (status.desiredNumberScheduled !== undefined) {
    return (
      status.desiredNumberScheduled > 0 && status.numberReady === status.desiredNumberScheduled
    );
  }
  return (status.readyReplicas ?? 0) >= (spec?.replicas ?? 1);
}

/** Whether a pod's Ready condition is true. */
export function isReady(pod: Pod): boolean {
  const isTrue = ({ type, status }: { type: string; status: string }): boolean =>
    type === 'Ready' && status === 'True';
  return pod.status?.conditions?.some(isTrue) ?? false;
}

export class ClusterApi {
  readonly client: KubeClient;
  readonly #kinds = new Map<string, ResourceKind>();

  private constructor(client: KubeClient) {
    this.client = client;
  }

  static async open(kubeconfig: string): Promise<ClusterApi> {
    return new ClusterApi(new KubeClient(await loadConnection({ kubeconfig }), 'ambient-start'));
  }

  /** Applies objects one after the other; a kind that is not served yet is waited for. */
  async apply(objects: readonly KubeObject[], signal: AbortSignal): Promise<void> {
    for (const object of objects) {
      const kind = await this.#kindOf(object, signal);
      const { name, namespace } = object.metadata ?? {};
      if (name === undefined) throw new MeshError('bad_manifest', `${kind.kind} without a name`);
      const scope = kind.isNamespaced ? { namespace: namespace ?? 'default' } : {};
      const whole = { ...object, metadata: { ...object.metadata, ...scope } };
      await this.client.apply(kind, whole, FIELD_MANAGER);
    }
  }

  async list<T>(kind: ResourceKind, namespace?: string): Promise<readonly T[]> {
    const path = collectionPath(kind, namespace);
    const { items } = await this.client.json<KubeList<T>>({ method: 'GET', path });
    return items ?? [];
  }

  pods(namespace?: string, label?: string): Promise<readonly Pod[]> {
    return this.list<Pod>(KINDS.pods, namespace).then((pods) =>
      pods.filter((pod) => {
        if (pod.metadata?.deletionTimestamp !== undefined) return false;
        const [key = '', value] = label?.split('=') ?? [];
        return label === undefined || pod.metadata?.labels?.[key] === value;
      }),
    );
  }

  /** Sets (or, with null, removes) labels of a namespace. */
  async labelNamespace(
    name: string,
    labels: Readonly<Record<string, string | null>>,
  ): Promise<void> {
    await this.client.mergePatch({ kind: KINDS.namespaces, name }, { metadata: { labels } });
  }

  /** Waits until `probe` returns something; undefined and errors are asked again. */
  async until<T>(
    what: string,
    probe: () => Promise<T | undefined>,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<T> {
    const deadline = Date.now() + timeoutMs;
    let last: unknown;
    while (Date.now() < deadline) {
      try {
        const value = await probe();
        if (value !== undefined) return value;
      } catch (err) {
        last = err;
      }
      await sleep(systemClock, POLL_MS, signal);
    }
    throw new MeshError('not_in_time', `${what}: not within ${timeoutMs / 1000} s`, {
      cause: last,
    });
  }

  close(): void {
    this.client.close();
  }

  async #kindOf(object: KubeObject, signal: AbortSignal): Promise<ResourceKind> {
    const { apiVersion = '', kind = '' } = object;
    const key = `${apiVersion}/${kind}`;
    const known = this.#kinds.get(key);
    if (known !== undefined) return known;
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
    const path = group === '' ? `/api/${version}` : `/apis/${apiVersion}`;
    const found = await this.until(
      `kind ${kind} of ${apiVersion}`,
      async () => {
        const { resources } = await this.client
          .json<ApiResourceList>({ method: 'GET', path })
          .catch((err: unknown) => {
            if (isKubeStatus(err, 404)) return { resources: [] };
            throw err;
          });
        return resources.find((each) => each.kind === kind && !each.name.includes('/'));
      },
      10_000,
      signal,
    );
    const resource: ResourceKind = {
      group: group ?? '',
      version: version ?? '',
      plural: found.name,
      kind,
      isNamespaced: found.namespaced,
    };
    this.#kinds.set(key, resource);
    return resource;
  }
}
