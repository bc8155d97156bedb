import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseSamples } from '../../../../common/telemetry/samples.ts';
import { groupVerdicts, proxyPods } from '../../../../controlplane/dashboard/dashboard.ts';
import { buildL4, buildL7, buildObservedL7 } from '../../../../controlplane/dashboard/traffic.ts';

const PAIR =
  'source_workload="web",source_workload_namespace="shop",destination_service_name="db",destination_service_namespace="shop"';

describe('traffic of the dashboard', () => {
  it('takes connections from the source, refusals from the destination', () => {
    const samples = parseSamples(
      [
        `istio_tcp_connections_opened_total{reporter="source",${PAIR},connection_security_policy="mutual_tls"} 5`,
        `istio_tcp_connections_opened_total{reporter="destination",${PAIR}} 5`,
        `istio_tcp_connections_failed_total{reporter="destination",${PAIR}} 2`,
        `istio_tcp_connections_failed_total{reporter="source",${PAIR}} 2`,
        `istio_tcp_sent_bytes_total{reporter="source",${PAIR}} 10`,
      ].join('\n'),
    );
    assert.deepEqual(buildL4(samples), [
      {
        source: 'shop/web',
        destination: 'shop/db',
        connections: 5,
        bytes: 10,
        refused: 2,
        security: { mutual_tls: 5 },
      },
    ]);
  });

  it('leaves out pairs without traffic', () => {
    const idle = `istio_tcp_connections_opened_total{reporter="source",${PAIR}} 0`;
    assert.deepEqual(buildL4(parseSamples(idle)), []);
  });

  it('counts errors and denials of a waypoint apart', () => {
    const samples = parseSamples(
      ['200', '403', '503']
        .map((code) => `istio_requests_total{${PAIR},response_code="${code}"} 1`)
        .join('\n'),
    );
    const [edge] = buildL7(samples, 'shop/waypoint');
    assert.equal(edge?.requests, 3);
    assert.equal(edge.errors, 1);
    assert.equal(edge.refused, 1);
    assert.equal(edge.waypoint, 'shop/waypoint');
  });
});

describe('requests that node proxies observed', () => {
  const total = (reporter: string, source: string, count: number, code = '2xx'): string => {
    const pair = `source_workload="${source}",source_workload_namespace="shop",destination_workload="db",destination_workload_namespace="shop"`;
    return `ambient_mesh_l7_requests_total{reporter="${reporter}",${pair},response_code_class="${code}"} ${count}`;
  };
  const samples = parseSamples(
    [
      total('source', 'web', 5),
      total('source', 'web', 1, '5xx'),
      total('source', 'web', 2, 'none'),
      total('destination', 'web', 8),
      total('destination', 'job', 3),
      total('destination', 'waypoint', 9),
    ].join('\n'),
  );

  it('are those of one reporter, and not those that a waypoint passed on', () => {
    assert.deepEqual(
      buildObservedL7(samples, new Set(['shop/waypoint'])).map(
        ({ source, destination, requests, errors, waypoint }) =>
          `${source} ${destination} ${requests} ${errors} ${waypoint}`,
      ),
      ['shop/web shop/db 8 3 ', 'shop/job shop/db 3 0 '],
    );
  });

  it('are not taken for those of a waypoint', () => {
    assert.deepEqual(buildL7(samples, 'shop/waypoint'), []);
  });
});

describe('latency of the dashboard', () => {
  const histogram = (fast: number, slow: number): string =>
    [
      `istio_requests_total{${PAIR},response_code="200"} ${fast + slow}`,
      `istio_request_duration_milliseconds_bucket{${PAIR},le="10"} ${fast}`,
      `istio_request_duration_milliseconds_bucket{${PAIR},le="100"} ${fast + slow}`,
      `istio_request_duration_milliseconds_bucket{${PAIR},le="+Inf"} ${fast + slow}`,
    ].join('\n');
  const before = parseSamples(histogram(0, 50));

  it('is that since the earlier reading, not since the start', () => {
    const [edge] = buildL7(parseSamples(histogram(50, 50)), 'shop/waypoint', before);
    assert.ok((edge?.p99Ms ?? Infinity) <= 10, 'the slow ones were before');
  });

  it('is unknown while nothing is served', () => {
    const [edge] = buildL7(before, 'shop/waypoint', before);
    assert.equal(edge?.p50Ms, undefined);
    assert.equal(edge?.requests, 50);
  });
});

describe('dashboard', () => {
  it('reads running node proxies and waypoints, and nothing that only looks like them', () => {
    const pod = (namespace: string, labels: Record<string, string>, phase = 'Running'): object => ({
      metadata: { name: 'p', namespace, labels },
      status: { podIP: '10.0.0.1', phase },
    });
    const waypoint = {
      'gateway.istio.io/managed': 'istio.io-mesh-controller',
      'gateway.networking.k8s.io/gateway-name': 'w',
    };
    const pods = [
      pod('istio-system', { app: 'ztunnel' }),
      pod('other', { app: 'ztunnel' }),
      pod('shop', waypoint),
      pod('shop', waypoint, 'Pending'),
    ];
    assert.deepEqual(proxyPods(pods, 'istio-system'), [
      { name: 'istio-system/p', address: '10.0.0.1' },
      { name: 'shop/p', address: '10.0.0.1', waypoint: 'shop/w' },
    ]);
  });

  it('puts the verdicts of an object together', () => {
    const verdict = { kind: 'VirtualService', namespace: 'n', name: 'v', message: '' } as const;
    const rows = groupVerdicts([
      { ...verdict, field: 'spec', enforcedAt: 'waypoint', reason: 'Accepted' },
      { ...verdict, field: 'spec.tls', enforcedAt: 'nowhere', reason: 'UnsupportedField' },
    ]);
    assert.equal(rows.length, 1);
    assert.deepEqual(
      rows[0]?.parts.map(({ reason }) => reason),
      ['Accepted', 'UnsupportedField'],
    );
  });
});
