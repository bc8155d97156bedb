// The metrics of the node proxy against ztunnel-spec 8.1: names, types, buckets. Whoever adds a family of the table below
// adds its list here; what is ours has another prefix.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FamilyDefinition } from '../../../common/telemetry/series-table.ts';
import { CONTROL_FAMILIES } from '../../../ztunnel/admin/control-metrics.ts';
import { DNS_FAMILIES } from '../../../ztunnel/dns/dns-metrics.ts';
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
