// Whether the same-node path may be taken for a connection, whoever serves the destination. Pure; apart from
// node-local.ts so that an explanation can ask without loading what serves connections.
import type { Workload } from '../../common/workload/model.ts';
import type { RequestDecision } from './request.ts';

/** Why the connection needs a tunnel also on one node; undefined when it may be joined. */
export function nodeLocalObstacle(
  isEnabled: boolean,
  source: Workload,
  decision: Extract<RequestDecision, { kind: 'hbone' }>,
): string | undefined {
  const { workload } = decision;
  if (!isEnabled) return 'LOCAL_FAST_PATH is off';
  if (decision.hop !== 'workload' || workload === undefined) return 'it goes to a waypoint';
  if (!source.isNodeLocalAllowed) return 'the control plane does not allow it for the source';
  if (!workload.isNodeLocalAllowed)
    return 'the control plane does not allow it for the destination';
  if (workload.isNativeTunnel) return 'the destination ends its tunnels itself';
  return workload.isHostNetwork ? 'the destination is in the network of its node' : undefined;
}
