// Binds pods to the nodes this kubelet plays: node selector and required node affinity (what DaemonSets use), then
// the node with the fewest pods of the same owner, then the fewest pods. It gives way to any other scheduler: it
// waits for a moment, and a pod that is bound by then, or that turns out to be, is left alone.
import { errorMessage } from '../../common/errors.ts';
import { meetsOperator, type SelectorRequirement } from '../../common/label-selector.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { ObjectChange } from '../../common/kube/informer.ts';
import { KINDS, type ResourceKind } from '../../common/kube/resource.ts';
import type { ApiClient } from './api.ts';
import { log } from './log.ts';
import { objectKey, type KubeObject, type Pod } from './objects.ts';

const RETRY_MS = 2000;
const OTHERS_FIRST_MS = 1500;

interface NodeTerm {
  readonly matchFields?: readonly SelectorRequirement[];
  readonly matchExpressions?: readonly SelectorRequirement[];
}

interface SchedulingSpec {
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly schedulerName?: string;
  readonly affinity?: {
    readonly nodeAffinity?: {
      readonly requiredDuringSchedulingIgnoredDuringExecution?: {
        readonly nodeSelectorTerms?: readonly NodeTerm[];
      };
    };
  };
}

interface Owned {
  readonly ownerReferences?: readonly { readonly uid: string; readonly controller?: boolean }[];
}

/** Whether the pod may run on the node. Pure. */
export function fitsNode(pod: Pod, node: KubeObject): boolean {
  const { nodeSelector = {}, affinity } = pod.spec as SchedulingSpec;
  const labels = node.metadata.labels ?? {};
  if (Object.entries(nodeSelector).some(([key, value]) => labels[key] !== value)) return false;
  const terms =
    affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (terms === undefined) return true;
  return terms.some(
    ({ matchFields = [], matchExpressions = [] }) =>
      matchFields.every(({ operator, values }) =>
        meetsOperator(node.metadata.name, operator, values),
      ) &&
      matchExpressions.every(({ key, operator, values }) =>
        meetsOperator(labels[key], operator, values),
      ),
  );
}

function ownerOf(pod: Pod): string | undefined {
  const { ownerReferences } = pod.metadata as Owned;
  return ownerReferences?.find(({ controller }) => controller === true)?.uid;
}

/** The node a pod should go to; undefined when none fits. Pure. */
export function chooseNode(
  pod: Pod,
  nodes: Iterable<KubeObject>,
  pods: Iterable<Pod>,
): string | undefined {
  const owner = ownerOf(pod);
  const all = [...pods];
  const score = (name: string): number => {
    const here = all.filter(({ spec }) => spec.nodeName === name);
    const siblings = here.filter((other) => owner !== undefined && ownerOf(other) === owner);
    return siblings.length * 1000 + here.length;
  };
  return [...nodes]
    .filter((node) => fitsNode(pod, node))
    .map(({ metadata: { name } }) => ({ name, score: score(name) }))
    .toSorted((a, b) => a.score - b.score || a.name.localeCompare(b.name))[0]?.name;
}

export class Scheduler {
  readonly #api: ApiClient;
  readonly #ours: ReadonlySet<string>;
  readonly #pods = new Map<string, Pod>();
  readonly #nodes = new Map<string, KubeObject>();

  #timer: NodeJS.Timeout | undefined;

  /** `ours`: the only nodes pods are bound to. */
  constructor(api: ApiClient, ours: readonly string[]) {
    this.#api = api;
    this.#ours = new Set(ours);
  }

  /** Binds pods until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#watch(KINDS.nodes, this.#nodes, signal),
      this.#watch(KINDS.pods, this.#pods, signal),
    ]);
  }

  #watch<T extends KubeObject>(
    kind: ResourceKind,
    into: Map<string, T>,
    signal: AbortSignal,
  ): Promise<void> {
    const onChange = ({ key, current }: ObjectChange<T>): void => {
      if (current === undefined) into.delete(key);
      else into.set(key, current);
      this.#bindSoon();
    };
    return this.#api.watch<T>({ kind, onChange }, signal);
  }

  #bindSoon(): void {
    const isWaiting = [...this.#pods.values()].some(({ spec }) => (spec.nodeName ?? '') === '');
    if (!isWaiting || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#bindAll();
    }, OTHERS_FIRST_MS);
  }

  #bindAll(): void {
    for (const [key, pod] of this.#pods) {
      const { nodeName = '' } = pod.spec;
      const { schedulerName = 'default-scheduler' } = pod.spec as SchedulingSpec;
      const isDone = nodeName !== '' || pod.metadata.deletionTimestamp !== undefined;
      if (isDone || schedulerName !== 'default-scheduler') continue;
      const nodes = [...this.#nodes.values()].filter(({ metadata }) =>
        this.#ours.has(metadata.name),
      );
      const chosen = chooseNode(pod, nodes, this.#pods.values());
      if (chosen === undefined) continue;
      // Counted at once, so that the next pod of a burst goes elsewhere.
      this.#pods.set(key, { ...pod, spec: { ...pod.spec, nodeName: chosen } });
      void this.#bind(pod, chosen);
    }
  }

  async #bind(pod: Pod, node: string): Promise<void> {
    const { namespace = 'default', name, uid } = pod.metadata;
    try {
      await this.#api.create(`/api/v1/namespaces/${namespace}/pods/${name}/binding`, {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name, namespace, uid },
        target: { apiVersion: 'v1', kind: 'Node', name: node },
      });
    } catch (err) {
      if (isKubeStatus(err, 404) || isKubeStatus(err, 409)) return;
      log.warn({ pod: `${namespace}/${name}`, err: errorMessage(err) }, 'pod not bound');
      setTimeout(() => {
        this.#pods.set(objectKey(pod), pod);
        this.#bindSoon();
      }, RETRY_MS);
    }
  }
}
