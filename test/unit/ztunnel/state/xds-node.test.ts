// The node of the first xDS requests, from the variables.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readConfig } from '../../../../ztunnel/config.ts';
import { xdsNode } from '../../../../ztunnel/state/xds-node.ts';

const POD = { POD_NAME: 'z-1', POD_NAMESPACE: 'mesh', SERVICE_ACCOUNT: 'z', NODE_NAME: 'n' };
const nodeOf = (env: Record<string, string>) => xdsNode(readConfig({ ...POD, ...env }));

describe('the node for the control plane', () => {
  it('has Istio’s form, and its default address', () => {
    const { nodeId, nodeMetadata } = nodeOf({});
    assert.equal(nodeId, 'ztunnel~1.1.1.1~z-1.mesh~mesh.svc.cluster.local');
    assert.deepEqual(nodeMetadata, {
      NAME: 'z-1',
      NAMESPACE: 'mesh',
      INSTANCE_IPS: '1.1.1.1',
      NODE_NAME: 'n',
      SERVICE_ACCOUNT: 'z',
      CLUSTER_ID: 'Kubernetes',
    });
  });

  it('is of the cluster’s domain', () => {
    const { nodeId } = nodeOf({ CLUSTER_DOMAIN: 'Example.org', ISTIO_META_DNS_CAPTURE: 'false' });
    assert.equal(nodeId, 'ztunnel~1.1.1.1~z-1.mesh~mesh.svc.example.org');
  });

  it('has the addresses of both families, the first in its name', () => {
    const { nodeId, nodeMetadata } = nodeOf({ INSTANCE_IP: '10.1.2.3,fd00::3' });
    assert.equal(nodeId, 'ztunnel~10.1.2.3~z-1.mesh~mesh.svc.cluster.local');
    assert.equal(nodeMetadata['INSTANCE_IPS'], '10.1.2.3,fd00::3');
  });

  it('says further metadata, which win', () => {
    const { nodeMetadata } = nodeOf({ ISTIO_META_FLAVOUR: 'plain', ISTIO_META_NODE_NAME: 'other' });
    assert.partialDeepStrictEqual(nodeMetadata, { FLAVOUR: 'plain', NODE_NAME: 'other' });
  });
});
