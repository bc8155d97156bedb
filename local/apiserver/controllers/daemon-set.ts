// DaemonSets: a pod on every node that fits, replaced by rolling update with maxUnavailable or maxSurge.
import { clone, dict, field, list, number, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { keyOf } from '../storage/store.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue, builtin, concernedKey, splitKey } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isNodeReady, nodeObstacle } from './nodes.ts';
import {
  availableInMs,
  createPod,
  deletePod,
  isDeleting,
  isReady,
  phaseOf,
  podsOf,
  resolveShare,
  templateHash,
} from './pods.ts';

const REVISION_LABEL = 'controller-revision-hash';

const TOLERATED = [
  ['not-ready', 'NoExecute'],
  ['unreachable', 'NoExecute'],
  ['disk-pressure', 'NoSchedule'],
  ['memory-pressure', 'NoSchedule'],
  ['pid-pressure', 'NoSchedule'],
  ['unschedulable', 'NoSchedule'],
] as const;

interface OnNode {
  readonly node: KubeObject;
  readonly fresh: KubeObject[];
  readonly stale: KubeObject[];
}

/** The template's spec with the tolerations of every daemon pod. */
function daemonSpec(set: KubeObject): Dict {
  const spec = clone(dict(field(set, 'spec', 'template', 'spec')));
  const added = TOLERATED.map(([name, effect]) => ({
    key: `node.kubernetes.io/${name}`,
    operator: 'Exists',
    effect,
  }));
  return { ...spec, tolerations: [...list(spec['tolerations']), ...added] };
}

const CONCERNED = { own: BUCKETS.daemonSets, children: BUCKETS.pods, kind: 'DaemonSet' };

/** Keeps one pod of each DaemonSet on each node. */
export class DaemonSetController implements Controller {
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#queue = new WorkQueue(context, (key) => this.#sync(key));
  }

  onEvent(event: StoreEvent): void {
    const key = concernedKey(event, CONCERNED);
    if (key !== undefined) this.#queue.add(key);
    if (event.bucket === BUCKETS.nodes) {
      for (const set of this.#context.lifecycle.store.values(BUCKETS.daemonSets)) {
        this.#queue.add(keyOf(set.metadata.namespace, set.metadata.name));
      }
    }
  }

  close(): void {
    this.#queue.close();
  }

  #sync(key: string): void {
    const { namespace, name } = splitKey(key);
    const { store } = this.#context.lifecycle;
    const set = store.get(BUCKETS.daemonSets, namespace, name);
    if (set === undefined || isDeleting(set)) return;
    const revision = templateHash(field(set, 'spec', 'template'));
    const spec = daemonSpec(set);
    const all = store.list(BUCKETS.nodes);
    // A node that is not ready keeps its pod, but gets none before it has been ready.
    const nodes = all.filter((node) => nodeObstacle(spec, node) === undefined);
    const pods = podsOf(this.#context, set);
    this.#removeSurplus(set, pods, new Set(nodes.map((node) => node.metadata.name)));
    const states = nodes.map((node) => stateOn(node, pods, revision));
    this.#updateStatus(key, set, states, pods);
    const update = dict(field(set, 'spec', 'updateStrategy'));
    const isRolling = update['type'] !== 'OnDelete';
    for (const state of states) {
      const isVacant = state.fresh.length === 0 && state.stale.length === 0;
      if (isVacant && isNodeReady(state.node)) this.#create(set, state.node, revision, spec);
    }
    if (isRolling) this.#roll(set, states, { revision, spec, ...sharesOf(update, states.length) });
  }

  #create(set: KubeObject, node: KubeObject, revision: string, spec: Dict): void {
    createPod(this.#context, set, {
      labels: {
        [REVISION_LABEL]: revision,
        'pod-template-generation': String(set.metadata.generation ?? 1),
      },
      spec: { ...spec, nodeName: node.metadata.name },
    });
  }

  /** Pods on nodes that no longer fit, finished ones, and second ones of a revision. */
  #removeSurplus(set: KubeObject, pods: readonly KubeObject[], nodes: ReadonlySet<string>): void {
    const seen = new Set<string>();
    for (const pod of pods) {
      const node = text(field(pod, 'spec', 'nodeName'));
      const place = `${node} ${pod.metadata.labels?.[REVISION_LABEL] ?? ''}`;
      const isFinished = phaseOf(pod) === 'Failed' || phaseOf(pod) === 'Succeeded';
      if (isDeleting(pod)) continue;
      if (!nodes.has(node) || isFinished || seen.has(place)) deletePod(this.#context, set, pod);
      else seen.add(place);
    }
  }

  #roll(
    set: KubeObject,
    states: readonly OnNode[],
    plan: { revision: string; spec: Dict; maxSurge: number; maxUnavailable: number },
  ): void {
    const minReadySec = number(field(set, 'spec', 'minReadySeconds'), 0);
    const now = this.#context.clock.now();
    const isAvailable = (pod: KubeObject): boolean =>
      !isDeleting(pod) && availableInMs(pod, minReadySec, now) === 0;
    if (plan.maxSurge > 0) {
      // As in Kubernetes: pods that are ending do not count, and a node whose new pod is up has surged.
      const open = states.map(({ node, fresh, stale }) => ({
        node,
        fresh: fresh.filter((pod) => !isDeleting(pod)),
        stale: stale.filter((pod) => !isDeleting(pod)),
      }));
      let surging = open.filter(
        ({ fresh, stale }) => stale.length > 0 && fresh.length > 0 && !fresh.some(isAvailable),
      ).length;
      for (const { node, fresh, stale } of open) {
        if (stale.length === 0) continue;
        if (fresh.some(isAvailable)) {
          for (const pod of stale) deletePod(this.#context, set, pod);
        } else if (fresh.length === 0 && surging < plan.maxSurge) {
          surging += 1;
          this.#create(set, node, plan.revision, plan.spec);
        }
      }
      return;
    }
    let unavailable = states.filter(
      ({ fresh, stale }) => ![...fresh, ...stale].some(isAvailable),
    ).length;
    for (const { fresh, stale } of states) {
      if (fresh.length > 0) continue;
      for (const pod of stale.filter((item) => !isDeleting(item))) {
        const isUp = isAvailable(pod);
        if (isUp && unavailable >= plan.maxUnavailable) continue;
        if (isUp) unavailable += 1;
        deletePod(this.#context, set, pod);
      }
    }
  }

  #updateStatus(
    key: string,
    set: KubeObject,
    states: readonly OnNode[],
    pods: readonly KubeObject[],
  ): void {
    const { lifecycle, clock } = this.#context;
    const minReadySec = number(field(set, 'spec', 'minReadySeconds'), 0);
    const live = (state: OnNode): KubeObject[] =>
      [...state.fresh, ...state.stale].filter((pod) => !isDeleting(pod));
    const wait = (pod: KubeObject): number | undefined =>
      availableInMs(pod, minReadySec, clock.now());
    for (const pod of pods) {
      const soon = wait(pod);
      if (soon !== undefined && soon > 0) this.#queue.addLater(key, soon);
    }
    const counted = (test: (pod: KubeObject) => boolean): number =>
      states.filter((state) => live(state).some(test)).length;
    const available = counted((pod) => wait(pod) === 0);
    const placed = new Set(states.map(({ node }) => node.metadata.name));
    const status = {
      currentNumberScheduled: counted(() => true),
      numberMisscheduled: pods.filter(
        (pod) => !isDeleting(pod) && !placed.has(text(field(pod, 'spec', 'nodeName'))),
      ).length,
      desiredNumberScheduled: states.length,
      numberReady: counted(isReady),
      numberAvailable: available,
      numberUnavailable: states.length - available,
      updatedNumberScheduled: states.filter(({ fresh }) => fresh.some((pod) => !isDeleting(pod)))
        .length,
      observedGeneration: set.metadata.generation,
    };
    const resource = builtin(this.#context, BUCKETS.daemonSets);
    lifecycle.modify(resource, set, (copy) => Object.assign(copy, { status }), 'status');
  }
}

function stateOn(node: KubeObject, pods: readonly KubeObject[], revision: string): OnNode {
  const here = pods.filter((pod) => field(pod, 'spec', 'nodeName') === node.metadata.name);
  const isFresh = (pod: KubeObject): boolean => pod.metadata.labels?.[REVISION_LABEL] === revision;
  return {
    node,
    fresh: here.filter(isFresh),
    stale: here.filter((pod) => !isFresh(pod)),
  };
}

function sharesOf(update: Dict, nodes: number): { maxSurge: number; maxUnavailable: number } {
  const rolling = dict(update['rollingUpdate']);
  return {
    maxSurge: resolveShare(rolling['maxSurge'], nodes, true),
    maxUnavailable: Math.max(1, resolveShare(rolling['maxUnavailable'], nodes, true)),
  };
}
