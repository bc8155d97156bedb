// One result a connection: counters with Istio's labels, the access line, and series that go with their workload.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderSeries } from '../../../../common/telemetry/exposition.ts';
import { SeriesReader, SeriesTable } from '../../../../common/telemetry/series-table.ts';
import { ConnectionRecorder } from '../../../../ztunnel/proxy/connection-result.ts';
import { TRAFFIC_FAMILIES } from '../../../../ztunnel/proxy/traffic-families.ts';
import type { ConnectionParties } from '../../../../ztunnel/proxy/traffic-labels.ts';
import { makeService, makeWorkload } from '../../../support/mesh-builders.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const parties: ConnectionParties = {
  direction: 'outbound',
  source: makeWorkload('client', '10.0.0.1'),
  sourceBaggage: undefined,
  sourceIdentity: 'spiffe://cluster.local/ns/default/sa/client',
  destination: makeWorkload('server', '10.0.0.2'),
  destinationIdentity: 'spiffe://cluster.local/ns/default/sa/server',
  service: makeService('web', '10.96.0.1'),
};
const addresses = { src: '10.0.0.1:5', dst: '10.0.0.2:15008', hboneAddr: '10.0.0.2:8080' };

function setUp(): {
  recorder: ConnectionRecorder;
  text: () => string;
  logger: ReturnType<typeof quietLogger>;
} {
  const reader = new SeriesReader();
  const table = new SeriesTable(TRAFFIC_FAMILIES, (message) => reader.apply(message));
  const logger = quietLogger();
  const recorder = new ConnectionRecorder(table, logger, () => 1013);
  return { recorder, logger, text: () => renderSeries([reader]) };
}

describe('ConnectionRecorder', () => {
  it('uses exactly the labels of Istio, in their order', () => {
    const { recorder, text } = setUp();
    recorder.open(parties, addresses, 1000).finish({});
    const line = text()
      .split('\n')
      .find((one) => one.startsWith('istio_tcp_connections_opened_total'));
    const names = [...(line ?? '').matchAll(/([a-z_]+)="/g)].map(([, name]) => name);
    assert.deepEqual(names, [
      'reporter',
      'source_workload',
      'source_canonical_service',
      'source_canonical_revision',
      'source_workload_namespace',
      'source_principal',
      'source_app',
      'source_version',
      'source_cluster',
      'destination_service',
      'destination_service_namespace',
      'destination_service_name',
      'destination_workload',
      'destination_canonical_service',
      'destination_canonical_revision',
      'destination_workload_namespace',
      'destination_principal',
      'destination_app',
      'destination_version',
      'destination_cluster',
      'request_protocol',
      'response_flags',
      'connection_security_policy',
      'source_region',
      'source_zone',
      'destination_region',
      'destination_zone',
    ]);
  });

  it('counts bytes while they pass and writes one line with the direction in mind', () => {
    const { recorder, text, logger } = setUp();
    const connection = recorder.open(parties, addresses, 1000);
    connection.addForward(10);
    connection.addBackward(300);
    assert.match(text(), /^istio_tcp_received_bytes_total\{.* 10$/m);
    assert.match(text(), /^istio_tcp_sent_bytes_total\{.* 300$/m);
    assert.match(text(), /^istio_tcp_sockets_open\{reporter="source"\} 1$/m);
    connection.finish({});
    assert.match(text(), /^istio_tcp_sockets_open\{reporter="source"\} 0$/m);
    assert.equal(logger.lines.length, 1);
    assert.partialDeepStrictEqual(logger.lines[0], {
      level: 'info',
      message: 'connection complete',
      fields: {
        bytes_sent: 10,
        bytes_recv: 300,
        duration: '13ms',
        'dst.hbone_addr': '10.0.0.2:8080',
      },
    });
  });

  it('a second result is a bug', () => {
    const connection = setUp().recorder.open(parties, addresses, 1000);
    connection.finish({});
    assert.throws(() => connection.finish({}), { code: 'result_twice' });
  });

  it('a failure is counted by flag and by reason', () => {
    const { recorder, text, logger } = setUp();
    const connection = recorder.open(parties, addresses, 1000);
    connection.finish({ reason: 'policy_denied', detail: 'no', policy: 'default/deny' });
    assert.match(text(), /^istio_tcp_connections_failed_total\{.*response_flags="DENY".* 1$/m);
    assert.match(text(), /^ambient_connections_refused_total\{.*reason="policy_denied".* 1$/m);
    assert.partialDeepStrictEqual(logger.lines[0], {
      level: 'error',
      fields: { policy: 'default/deny', error: 'no', response_flags: 'DENY' },
    });
  });

  it('a refusal before anything was opened is counted too', () => {
    const { recorder, text } = setUp();
    recorder.refuse(parties, addresses, 'no_healthy_upstream', 'nobody there');
    assert.match(
      text(),
      /^ambient_connections_refused_total\{.*reason="no_healthy_upstream".* 1$/m,
    );
    assert.doesNotMatch(text(), /connections_opened_total/);
  });

  it('removes the series of a workload that has gone, once nothing is open', () => {
    const { recorder, text } = setUp();
    const connection = recorder.open(parties, addresses, 1000);
    recorder.groups.markStale(['Kubernetes//Pod/default/server']);
    recorder.groups.sweep();
    assert.match(text(), /connections_opened_total/);
    connection.finish({ reason: 'connect_failed', detail: '' });
    recorder.groups.sweep();
    assert.doesNotMatch(text(), /destination_workload="server"/);
  });
});
