// Which workloads are local: whose certificates are asked for ahead, and whose changes a data thread is told.
import type { Workload } from '../../common/workload/model.ts';
import type { Config } from '../config.ts';

/** Those of this node; all of them where NODE_NAME does not say which it is; in dedicated mode the only pod. */
export function localTo({
  nodeName,
  dedicatedPod: pod,
}: Pick<Config, 'nodeName' | 'dedicatedPod'>): (workload: Workload) => boolean {
  if (pod === undefined) return ({ node }) => nodeName === '' || node === nodeName;
  return ({ namespace, name, serviceAccount }) =>
    namespace === pod.namespace && name === pod.name && serviceAccount === pod.serviceAccount;
}
