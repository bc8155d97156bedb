// Our GatewayClasses: created at start, and recreated when deleted. `istio-waypoint` is ours only when nobody else
// made it: a class without our label belongs to an Istio that runs beside us, and its Gateways are left alone.
import { WAYPOINT_CONTROLLERS } from '../../common/compile/gateways.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { Condition } from './waypoint-objects.ts';

/** The parts of a GatewayClass that are read. */
export interface GatewayClassObject extends KubeObject {
  readonly spec?: { readonly controllerName?: string };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

const OWNER_LABEL = 'app.kubernetes.io/managed-by';
const OWNER = 'ambient-mesh';

/** Whether Gateways of this class are ours to deploy. */
export function isOurClass(object: GatewayClassObject | undefined): boolean {
  const name = object?.metadata?.name ?? '';
  return (
    Object.hasOwn(WAYPOINT_CONTROLLERS, name) &&
    object?.spec?.controllerName === WAYPOINT_CONTROLLERS[name] &&
    object?.metadata?.labels?.[OWNER_LABEL] === OWNER
  );
}

/** Creates missing classes and marks ours as accepted. */
export async function reconcileClass(
  client: KubeClient,
  name: string,
  live: GatewayClassObject | undefined,
  now: string,
): Promise<void> {
  const controllerName = WAYPOINT_CONTROLLERS[name];
  if (controllerName === undefined) return;
  let object = live;
  if (object === undefined) {
    try {
      object = await client.create(KINDS.gatewayClasses, {
        metadata: { name, labels: { [OWNER_LABEL]: OWNER } },
        spec: {
          controllerName,
          description: 'Waypoint of ambient-mesh: L7 for the workloads that use it',
        },
      });
    } catch (err) {
      if (isKubeStatus(err, 409)) return; // the watch will show it
      throw err;
    }
  }
  if (!isOurClass(object)) return;
  const accepted = object.status?.conditions?.find(({ type }) => type === 'Accepted');
  if (accepted?.status === 'True') return;
  const condition: Condition = {
    type: 'Accepted',
    status: 'True',
    reason: 'Accepted',
    message: 'Handled by ambient-mesh',
    observedGeneration: object.metadata?.generation ?? 1,
    lastTransitionTime: now,
  };
  const patch = { status: { conditions: [condition] } };
  await client.mergePatch({ kind: KINDS.gatewayClasses, name }, patch, 'status');
}
