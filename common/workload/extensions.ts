// Names of our extensions in `istio.workload.Workload.extensions`. A proxy that does not know them skips them.

/**
 * The pod may be reached by the same-node path, which does not cross the pods' interfaces: no NetworkPolicy selects it.
 * Its absence, as under a control plane that does not know it, keeps the pod on HBONE.
 */
export const NODE_LOCAL_EXTENSION = 'ambient-mesh.io/node-local';
