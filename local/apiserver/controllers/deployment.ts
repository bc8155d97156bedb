// Deployments: one ReplicaSet for each template, rolled from the old ones to the new one within maxSurge and
// maxUnavailable, or recreated. Revisions, conditions and history are those `kubectl rollout` reads.
import { clone, controllerOf, dict, field, number, sameJson, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { deleteObject } from '../api/delete.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue, builtin, concernedKey, ownedBy, splitKey } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { deploymentStatus } from './deployment-status.ts';
import { recordEvent } from './events.ts';
import { isDeleting, resolveShare, templateHash } from './pods.ts';
import { planRollout } from './rollout.ts';

export const HASH_LABEL = 'pod-template-hash';
const REVISION = 'deployment.kubernetes.io/revision';

const replicasOf = (set: KubeObject): number => number(field(set, 'spec', 'replicas'), 0);
const availableOf = (set: KubeObject): number =>
  number(field(set, 'status', 'availableReplicas'), 0);
const revisionOf = (object: KubeObject): number =>
  Number(object.metadata.annotations?.[REVISION] ?? 0);

/** The template without the label that tells ReplicaSets apart. */
function bareTemplate(template: unknown): Dict {
  const copy = clone(dict(template));
  const metadata = dict(copy['metadata']);
  const labels = { ...dict(metadata['labels']) };
  Reflect.deleteProperty(labels, HASH_LABEL);
  copy['metadata'] = { ...metadata, labels, creationTimestamp: undefined };
  return copy;
}

const CONCERNED = { own: BUCKETS.deployments, children: BUCKETS.replicaSets, kind: 'Deployment' };

/** Rolls Deployments out. */
export class DeploymentController implements Controller {
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#queue = new WorkQueue(context, (key) => this.#sync(key));
  }

  onEvent(event: StoreEvent): void {
    const key = concernedKey(event, CONCERNED);
    if (key !== undefined) this.#queue.add(key);
  }

  close(): void {
    this.#queue.close();
  }

  #sync(key: string): void {
    const { namespace, name } = splitKey(key);
    const { store } = this.#context.lifecycle;
    const deployment = store.get(BUCKETS.deployments, namespace, name);
    if (deployment === undefined || isDeleting(deployment)) return;
    const sets = store
      .list(BUCKETS.replicaSets, namespace)
      .filter((set) => controllerOf(set)?.uid === deployment.metadata.uid && !isDeleting(set));
    const wanted = bareTemplate(field(deployment, 'spec', 'template'));
    const found = sets.find((set) =>
      sameJson(bareTemplate(field(set, 'spec', 'template')), wanted),
    );
    const isPaused = field(deployment, 'spec', 'paused') === true;
    const others = sets.filter((set) => set !== found);
    let current = found;
    if (!isPaused) {
      current = this.#revise(deployment, found ?? this.#newSet(deployment, sets), others);
    }
    if (current !== undefined) this.#scale(deployment, current, others);
    this.#trimHistory(deployment, others);
    this.#updateStatus(key, deployment, current, others);
  }

  #newSet(deployment: KubeObject, sets: readonly KubeObject[]): KubeObject {
    const { lifecycle } = this.#context;
    const { name, namespace } = deployment.metadata;
    const template = bareTemplate(field(deployment, 'spec', 'template'));
    let hash = templateHash(template);
    // A set of that name with another template can only be a collision: spell the hash differently.
    while (sets.some((set) => set.metadata.name === `${name}-${hash}`)) hash = templateHash(hash);
    const labels = { ...dict(dict(template['metadata'])['labels']), [HASH_LABEL]: hash };
    const selector = dict(field(deployment, 'spec', 'selector'));
    const matchLabels = { ...dict(selector['matchLabels']), [HASH_LABEL]: hash };
    const body: Dict = {
      metadata: {
        name: `${name}-${hash}`,
        labels,
        annotations: { ...copiedAnnotations(deployment) },
        ownerReferences: [ownedBy(deployment)],
      },
      spec: {
        replicas: 0,
        minReadySeconds: field(deployment, 'spec', 'minReadySeconds'),
        selector: { ...selector, matchLabels },
        template: { ...template, metadata: { ...dict(template['metadata']), labels } },
      },
    };
    const resource = builtin(this.#context, BUCKETS.replicaSets);
    return lifecycle.create(resource, namespace, body, { manager: 'deployment-controller' });
  }

  /** Makes the current set the newest revision, and says so on the deployment. */
  #revise(deployment: KubeObject, set: KubeObject, others: readonly KubeObject[]): KubeObject {
    const newest = Math.max(0, ...others.map(revisionOf));
    const revision = Math.max(revisionOf(set), newest + 1);
    const { lifecycle } = this.#context;
    const annotate = (bucket: string, object: KubeObject): KubeObject => {
      if (revisionOf(object) === revision) return object;
      const change = (copy: KubeObject): void => {
        copy.metadata.annotations = {
          ...copy.metadata.annotations,
          [REVISION]: String(revision),
        };
      };
      return lifecycle.modify(builtin(this.#context, bucket), object, change) ?? object;
    };
    annotate(BUCKETS.deployments, deployment);
    return annotate(BUCKETS.replicaSets, set);
  }

  #scale(deployment: KubeObject, current: KubeObject, others: readonly KubeObject[]): void {
    const desired = number(field(deployment, 'spec', 'replicas'), 1);
    const strategy = dict(field(deployment, 'spec', 'strategy'));
    const rolling = dict(strategy['rollingUpdate']);
    const isPaused = field(deployment, 'spec', 'paused') === true;
    const plan = planRollout({
      desired,
      recreate: strategy['type'] === 'Recreate',
      maxSurge: resolveShare(rolling['maxSurge'], desired, true),
      maxUnavailable: resolveShare(rolling['maxUnavailable'], desired, false),
      current: sizeOf(current),
      others: isPaused ? [] : others.map(sizeOf),
    });
    this.#resize(deployment, current, plan.current);
    for (const [index, set] of others.entries()) {
      const size = plan.others[index];
      if (size !== undefined) this.#resize(deployment, set, size);
    }
  }

  #resize(deployment: KubeObject, set: KubeObject, replicas: number): void {
    const before = replicasOf(set);
    if (before === replicas) return;
    const resource = builtin(this.#context, BUCKETS.replicaSets);
    this.#context.lifecycle.modify(resource, set, (copy) => {
      dict(copy['spec'])['replicas'] = replicas;
    });
    const direction = replicas > before ? 'up' : 'down';
    recordEvent(this.#context, deployment, {
      reason: 'ScalingReplicaSet',
      message: `Scaled ${direction} replica set ${set.metadata.name} from ${before} to ${replicas}`,
      component: 'deployment-controller',
    });
  }

  #trimHistory(deployment: KubeObject, others: readonly KubeObject[]): void {
    const limit = number(field(deployment, 'spec', 'revisionHistoryLimit'), 10);
    const idle = others.filter(
      (set) => replicasOf(set) === 0 && number(field(set, 'status', 'replicas'), 0) === 0,
    );
    idle.sort((a, b) => revisionOf(a) - revisionOf(b));
    const resource = builtin(this.#context, BUCKETS.replicaSets);
    for (const set of idle.slice(0, Math.max(0, idle.length - limit))) {
      const { namespace, name } = set.metadata;
      const stored = this.#context.lifecycle.store.get(BUCKETS.replicaSets, namespace, name);
      if (stored !== undefined) {
        deleteObject(this.#context, resource, stored, { policy: 'Background' });
      }
    }
  }

  #updateStatus(
    key: string,
    deployment: KubeObject,
    current: KubeObject | undefined,
    others: readonly KubeObject[],
  ): void {
    const { lifecycle, clock } = this.#context;
    const resource = builtin(this.#context, BUCKETS.deployments);
    const { status, recheckMs } = deploymentStatus(deployment, current, others, clock.now());
    if (recheckMs !== undefined) this.#queue.addLater(key, recheckMs);
    lifecycle.modify(resource, deployment, (copy) => Object.assign(copy, { status }), 'status');
  }
}

const sizeOf = (set: KubeObject): { replicas: number; available: number; running: number } => ({
  replicas: replicasOf(set),
  available: availableOf(set),
  running: number(field(set, 'status', 'replicas'), 0),
});

/** Annotations that describe the deployment itself stay there. */
function copiedAnnotations(deployment: KubeObject): Record<string, string> {
  const own = ['kubectl.kubernetes.io/last-applied-configuration', REVISION];
  const all = Object.entries(deployment.metadata.annotations ?? {});
  return Object.fromEntries(
    all.filter(([name]) => !own.includes(name)).map(([name, value]) => [name, text(value)]),
  );
}
