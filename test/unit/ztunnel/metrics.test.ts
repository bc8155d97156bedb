// The metrics of the node proxy against those of Istio's ztunnel: names, types, buckets. Whoever adds a family of the table below
// adds its list here; what is ours has another prefix.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderSeries } from '../../../common/telemetry/exposition.ts';
import { SeriesReader, SeriesTable } from '../../../common/telemetry/series-table.ts';
import type { FamilyDefinition } from '../../../common/telemetry/series-table.ts';
import { CONTROL_FAMILIES, ControlMetrics } from '../../../ztunnel/admin/control-metrics.ts';
import { DNS_FAMILIES, DnsMetrics, dnsLabels } from '../../../ztunnel/dns/dns-metrics.ts';
import { TRAFFIC_FAMILIES } from '../../../ztunnel/proxy/traffic-families.ts';

const FAMILIES: readonly FamilyDefinition[] = [
  ...CONTROL_FAMILIES,
  ...TRAFFIC_FAMILIES,
  ...DNS_FAMILIES,
];

// Stable ones do not say "(unstable)" in their help.
const SPEC: Readonly<Record<string, 'counter' | 'gauge' | 'histogram'>> = {
  istio_tcp_connections_opened: 'counter',
  istio_tcp_connections_closed: 'counter',
  istio_tcp_received_bytes: 'counter',
  istio_tcp_sent_bytes: 'counter',
  istio_tcp_connections_failed: 'counter',
  istio_tcp_sockets_open: 'gauge',
  istio_crl_policy_rejections: 'counter',
  istio_crl_untracked_connections: 'counter',
  istio_on_demand_dns: 'counter',
  istio_dns_requests: 'counter',
  istio_dns_upstream_requests: 'counter',
  istio_dns_upstream_failures: 'counter',
  istio_dns_upstream_request_duration_seconds: 'histogram',
  istio_xds_connection_terminations: 'counter',
  istio_xds_message: 'counter',
  istio_xds_message_bytes: 'counter',
  istio_build: 'gauge',
  workload_manager_active_proxy_count: 'gauge',
  workload_manager_pending_proxy_count: 'gauge',
  workload_manager_proxies_started: 'counter',
  workload_manager_proxies_stopped: 'counter',
};
const STABLE = new Set([
  'istio_tcp_connections_opened',
  'istio_tcp_connections_closed',
  'istio_tcp_received_bytes',
  'istio_tcp_sent_bytes',
  'istio_build',
]);

describe('metric families', () => {
  for (const [name, type] of Object.entries(SPEC)) {
    it(`${name} is a ${type}`, () => {
      const family = FAMILIES.find((one) => one.name === name);
      assert.ok(family);
      assert.equal(family.type, type);
      assert.equal(family.help.includes('(unstable)'), !STABLE.has(name));
    });
  }

  it('has the buckets of Istio', () => {
    const family = FAMILIES.find(({ type }) => type === 'histogram');
    assert.deepEqual(family?.buckets, [0.0005, 0.001, 0.01, 0.1, 1, 5]);
  });

  it('a name of Istio means what Istio means; others are ours', () => {
    for (const { name } of FAMILIES) {
      assert.ok(name in SPEC || name.startsWith('ambient_'), name);
      assert.doesNotMatch(name, /_total$/);
    }
    assert.equal(new Set(FAMILIES.map(({ name }) => name)).size, FAMILIES.length);
  });
});

describe('metrics of the control thread', () => {
  const reader = new SeriesReader();
  const table = new SeriesTable(FAMILIES, (message) => reader.apply(message));

  it('have the build, the pods and the messages of the control plane with Istio’s labels', () => {
    const metrics = new ControlMetrics(table, '1.2.3');
    const pods = { activeCount: 2, pendingCount: 1, startedCount: 5, stoppedCount: 3 };
    metrics.collect(pods, 0);
    metrics.countStreamEnd('Reconnect');
    metrics.countMessage('a/b', 100);
    metrics.countMessage('a/b', 11);
    const text = renderSeries([reader]);
    for (const line of [
      '# HELP istio_xds_message Total number of messages received (unstable).',
      'istio_build{component="ztunnel",tag="1.2.3"} 1',
      'workload_manager_active_proxy_count 2',
      'workload_manager_pending_proxy_count 1',
      'workload_manager_proxies_started_total 5',
      'workload_manager_proxies_stopped_total 3',
      'istio_xds_connection_terminations_total{reason="Reconnect"} 1',
      'istio_xds_message_total{url="a/b"} 2',
      'istio_xds_message_bytes_total{url="a/b"} 111',
    ])
      assert.ok(text.split('\n').includes(line), line);
  });

  it('of DNS: four labels in their order, failures and times of name servers in their buckets', () => {
    const metrics = new DnsMetrics(table);
    const client = { canonicalName: 'c', canonicalRevision: '' };
    const labels = dnsLabels('AAAA', 'udp', client);
    const names = 'source_canonical_service="c",source_canonical_revision="unknown"';
    assert.equal(labels, `request_query_type="aaaa",request_protocol="udp",${names}`);
    metrics.countUpstream(labels, 0.05, true);
    metrics.countUpstream(labels, 6, false);
    const text = renderSeries([reader]).split('\n');
    const duration = 'istio_dns_upstream_request_duration_seconds';
    for (const line of [
      `istio_dns_upstream_requests_total{${labels}} 2`,
      `istio_dns_upstream_failures_total{${labels}} 1`,
      `${duration}_bucket{${labels},le="0.01"} 0`,
      `${duration}_bucket{${labels},le="0.1"} 1`,
      `${duration}_bucket{${labels},le="5"} 1`,
      `${duration}_bucket{${labels},le="+Inf"} 2`,
      `${duration}_count{${labels}} 2`,
    ])
      assert.ok(text.includes(line), `${line} in\n${text.join('\n')}`);
  });
});
