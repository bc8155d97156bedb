// Names of our extensions in `istio.workload.Workload.extensions`. A proxy that does not know them skips them.

/**
 * The pod may be reached by the same-node path, which does not cross the pods' interfaces: no NetworkPolicy selects it.
 * Its absence, as under a control plane that does not know it, keeps the pod on HBONE.
 */
export const NODE_LOCAL_EXTENSION = 'ambient-mesh.io/node-local';

/** HTTP on the pod's connections is observed by the node proxies: its namespace asked for it. */
export const L7_SIGHT_EXTENSION = 'ambient-mesh.io/l7-sight';
