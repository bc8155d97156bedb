// Which pods may use the same-node path (design: same node). That path joins two pods inside the node proxy, so what
// filters on the pods' interfaces is skipped: a pod that any NetworkPolicy selects is left out, and so is one that
// opts out, or whose namespace does.
import { matchesSelector } from '../label-selector.ts';
import type { PodEntity } from './entities.ts';
import type { MeshModel } from './mesh-model.ts';
import { groupBy } from './mesh-model.ts';
import type { NetworkPolicy } from './types.ts';

/** Label or annotation on a pod, or label on a namespace: `disabled` keeps its traffic on HBONE. */
export const NODE_LOCAL_SWITCH = 'ambient-mesh.io/node-local';
const OFF = 'disabled';

/** Decides for every pod. */
export class NodeLocalRule {
  readonly #model: MeshModel;
  readonly #policies: ReadonlyMap<string, readonly NetworkPolicy[]>;

  constructor(model: MeshModel, policies: readonly NetworkPolicy[]) {
    this.#model = model;
    this.#policies = groupBy(policies, (policy) => policy.metadata?.namespace ?? '');
  }

  allows(pod: PodEntity): boolean {
    const namespace = this.#model.namespaces.get(pod.namespace);
    if (namespace?.labels[NODE_LOCAL_SWITCH] === OFF) return false;
    if (pod.labels[NODE_LOCAL_SWITCH] === OFF || pod.annotations[NODE_LOCAL_SWITCH] === OFF) {
      return false;
    }
    const policies = this.#policies.get(pod.namespace) ?? [];
    return !policies.some(({ spec }) => matchesSelector(pod.labels, spec?.podSelector));
  }
}
