// What labels say of the far end of a double tunnel: what its baggage says and its certificate proves.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { describeRemote } from '../../../../ztunnel/proxy/remote-workload.ts';
import { trafficLabels } from '../../../../ztunnel/proxy/traffic-labels.ts';
import type { ConnectionParties } from '../../../../ztunnel/proxy/traffic-labels.ts';
import { makeWorkload } from '../../../support/mesh-builders.ts';

const gateway = makeWorkload('gateway', '10.0.0.9');
const serverIdentity = 'spiffe://cluster.local/ns/far/sa/account';

function labelsOf(baggage: string): Record<string, string> {
  const responseHeaders = baggage === '' ? [] : [['baggage', baggage] as const];
  const destination = describeRemote(gateway, { responseHeaders, serverIdentity });
  const parties: ConnectionParties = {
    ...{ direction: 'outbound', source: undefined, sourceBaggage: undefined, destination },
    ...{ sourceIdentity: undefined, destinationIdentity: serverIdentity, service: undefined },
  };
  return Object.fromEntries(trafficLabels(parties, '-'));
}

describe('the far end of a double tunnel', () => {
  it('is what its baggage says: the service is the canonical one, the app its workload', () => {
    const found = labelsOf(
      'k8s.cluster.name=c2,k8s.namespace.name=far,k8s.deployment.name=deployment,service.name=canonical,' +
        'service.version=v3,cloud.region=r,cloud.availability_zone=z',
    );
    assert.partialDeepStrictEqual(found, {
      ...{ destination_workload: 'deployment', destination_workload_namespace: 'far' },
      ...{ destination_canonical_service: 'canonical', destination_canonical_revision: 'v3' },
      ...{ destination_app: 'deployment', destination_version: 'v3', destination_cluster: 'c2' },
      ...{ destination_principal: serverIdentity, destination_region: 'r', destination_zone: 'z' },
    });
  });

  it('is nothing of the gateway’s where its baggage says less', () => {
    assert.partialDeepStrictEqual(labelsOf('k8s.namespace.name=far'), {
      ...{ destination_workload: 'unknown', destination_workload_namespace: 'far' },
      ...{ destination_canonical_service: 'unknown', destination_canonical_revision: 'unknown' },
      ...{ destination_app: 'unknown', destination_cluster: 'unknown' },
    });
  });

  it('is the gateway’s record where it says nothing', () => {
    assert.partialDeepStrictEqual(labelsOf(''), {
      ...{ destination_workload: 'gateway', destination_app: 'gateway' },
    });
  });
});
