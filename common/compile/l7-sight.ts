// Whose HTTP the node proxies observe on its way (docs/design/l7-sight.md): the pods of a namespace that asks for it. Not a
// waypoint's: it counts requests itself.
import type { PodEntity } from './entities.ts';
import type { MeshModel } from './mesh-model.ts';

/** Label on a namespace: `enabled`. As label or annotation on a pod, `disabled` leaves it out. */
export const L7_SIGHT_SWITCH = 'ambient-mesh.io/l7-sight';
const ON = 'enabled';
const OFF = 'disabled';

/** Whether a pod's connections are to be observed. */
export function isL7Observed(model: MeshModel, pod: PodEntity): boolean {
  if (pod.isWaypoint) return false;
  const namespace = model.namespaces.get(pod.namespace);
  if (namespace?.labels[L7_SIGHT_SWITCH] !== ON) return false;
  return pod.labels[L7_SIGHT_SWITCH] !== OFF && pod.annotations[L7_SIGHT_SWITCH] !== OFF;
}
