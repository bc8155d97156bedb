// Who the proxy is for the control plane: the node of its first xDS requests. Istio's ztunnel writes
// `cluster.local` and one address, whatever they are; here CLUSTER_DOMAIN counts, and INSTANCE_IP may list both families.
import type { JsonObject } from '@bufbuild/protobuf';
import type { Config } from '../config.ts';

/** What of the configuration says so. */
export type NodeConfig = Pick<
  Config,
  | 'podName'
  | 'podNamespace'
  | 'serviceAccount'
  | 'instanceIps'
  | 'nodeName'
  | 'clusterId'
  | 'clusterDomain'
  | 'metadata'
>;

/** Id and metadata; the metadata of the configuration win. */
export function xdsNode(config: NodeConfig): { nodeId: string; nodeMetadata: JsonObject } {
  const { podName, podNamespace, instanceIps, clusterDomain } = config;
  const domain = `${podNamespace}.svc.${clusterDomain}`;
  return {
    nodeId: ['ztunnel', instanceIps[0] ?? '', `${podName}.${podNamespace}`, domain].join('~'),
    nodeMetadata: {
      NAME: podName,
      NAMESPACE: podNamespace,
      INSTANCE_IPS: instanceIps.join(','),
      NODE_NAME: config.nodeName,
      SERVICE_ACCOUNT: config.serviceAccount,
      CLUSTER_ID: config.clusterId,
      ...config.metadata,
    },
  };
}
