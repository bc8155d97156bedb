// What each label of Istio's TCP metrics says. Their order is shown by connection-result.test.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { sourceLabels, trafficLabels } from '../../../../ztunnel/proxy/traffic-labels.ts';
import type { ConnectionParties } from '../../../../ztunnel/proxy/traffic-labels.ts';
import { makeService, makeWorkload } from '../../../support/mesh-builders.ts';

const IDENTITY = 'spiffe://cluster.local/ns/default/sa/client';
const NOBODY: ConnectionParties = {
  ...{ direction: 'inbound', source: undefined, sourceBaggage: undefined },
  ...{ sourceIdentity: undefined, destination: undefined, destinationIdentity: undefined },
  service: undefined,
};
const names = {
  ...{ workloadName: 'deployment', canonicalName: 'canonical', canonicalRevision: 'v2' },
  clusterId: 'c1',
};
const labels = (parties: Partial<ConnectionParties>, flag = '-'): Record<string, string> =>
  Object.fromEntries(trafficLabels({ ...NOBODY, ...parties }, flag));

describe('labels of a connection', () => {
  it('of a record: app and version are its canonical ones, the principal is not taken from it', () => {
    const source = makeWorkload('client', '10.0.0.1', names);
    assert.partialDeepStrictEqual(labels({ source }), {
      source_workload: 'deployment',
      source_canonical_service: 'canonical',
      source_canonical_revision: 'v2',
      source_workload_namespace: 'default',
      source_principal: 'unknown',
      source_app: 'canonical',
      source_version: 'v2',
      source_cluster: 'c1',
    });
    assert.equal(labels({ source, sourceIdentity: IDENTITY })['source_principal'], IDENTITY);
  });

  it('of baggage, where there is no record: app is the workload', () => {
    const sourceBaggage = {
      ...{ namespace: 'far', workloadName: 'w', canonicalName: 'c', canonicalRevision: 'v3' },
      ...{ clusterId: 'c2', region: 'r', zone: 'z' },
    };
    const found = labels({ sourceBaggage });
    assert.partialDeepStrictEqual(found, {
      source_workload: 'w',
      source_canonical_service: 'c',
      source_canonical_revision: 'v3',
      source_workload_namespace: 'far',
      source_app: 'w',
      source_version: 'v3',
      source_cluster: 'c2',
      source_region: 'r',
      source_zone: 'z',
    });
    const source = makeWorkload('client', '10.0.0.1', names);
    assert.partialDeepStrictEqual(labels({ source, sourceBaggage }), {
      source_workload: 'deployment',
      source_app: 'canonical',
      source_cluster: 'c1',
    });
  });

  it('of a destination: the principal is that of its record, the service is the one intended', () => {
    const waypoint = makeWorkload('waypoint', '10.0.0.9', names);
    const service = makeService('web', '10.96.0.1');
    assert.partialDeepStrictEqual(
      labels({ direction: 'outbound', destination: waypoint, service }),
      {
        reporter: 'source',
        destination_workload: 'deployment',
        destination_app: 'canonical',
        destination_version: 'v2',
        destination_principal: 'spiffe://cluster.local/ns/default/sa/waypoint',
        destination_service: 'web.default.svc.cluster.local',
        destination_service_name: 'web',
        destination_service_namespace: 'default',
      },
    );
  });

  it('what is not known is `unknown`; places are left out when neither side is known', () => {
    const { reporter, request_protocol, response_flags, ...rest } = labels({});
    assert.deepEqual([reporter, request_protocol, response_flags], ['destination', 'tcp', '-']);
    assert.equal(Object.keys(rest).length, 20);
    assert.deepEqual(new Set(Object.values(rest)), new Set(['unknown']));
    assert.ok(!('source_region' in rest));
    const locality = { region: 'r', zone: 'z', subzone: '' };
    const destination = makeWorkload('server', '10.0.0.2', { locality });
    assert.partialDeepStrictEqual(labels({ destination }), {
      ...{ source_region: 'unknown', source_zone: 'unknown' },
      ...{ destination_region: 'r', destination_zone: 'z' },
    });
  });

  it('mutual TLS is what the other side has proven', () => {
    const security = (parties: Partial<ConnectionParties>): string | undefined =>
      labels(parties)['connection_security_policy'];
    assert.equal(security({ sourceIdentity: IDENTITY }), 'mutual_tls');
    assert.equal(security({ destinationIdentity: IDENTITY }), 'unknown');
    assert.equal(security({ direction: 'outbound', destinationIdentity: IDENTITY }), 'mutual_tls');
    assert.equal(security({ direction: 'outbound', sourceIdentity: IDENTITY }), 'unknown');
  });

  it('of on-demand DNS: eight of the source, its principal included', () => {
    assert.deepEqual(sourceLabels(makeWorkload('client', '10.0.0.1', names)), [
      ['source_workload', 'deployment'],
      ['source_canonical_service', 'canonical'],
      ['source_canonical_revision', 'v2'],
      ['source_workload_namespace', 'default'],
      ['source_principal', IDENTITY],
      ['source_app', 'canonical'],
      ['source_version', 'v2'],
      ['source_cluster', 'c1'],
    ]);
  });
});
