import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderServerTable } from '../../../cli/commands/get.ts';
import { labelConflicts, parseLabelChanges } from '../../../cli/commands/label.ts';
import { buildEdges } from '../../../cli/commands/metrics.ts';
import { summarizeNamespaces } from '../../../cli/commands/status.ts';
import { buildWaypoint, listRows } from '../../../cli/commands/waypoint.ts';
import { parseManifest } from '../../../cli/manifest.ts';
import { formatAge, formatTable } from '../../../cli/output.ts';
import { parseSamples } from '../../../common/telemetry/samples.ts';

describe('output', () => {
  it('pads columns to their widest cell', () => {
    assert.equal(formatTable(['A', 'B'], [['long', 'x']]), 'A      B\nlong   x');
  });

  it('writes ages as kubectl does', () => {
    const now = Date.parse('2026-01-03T00:00:00Z');
    const cases: [string, string][] = [
      ['2026-01-02T23:59:15Z', '45s'],
      ['2026-01-02T23:48:00Z', '12m'],
      ['2026-01-02T21:00:00Z', '3h'],
      ['2026-01-01T00:00:00Z', '2d'],
    ];
    for (const [created, age] of cases) assert.equal(formatAge(created, now), age);
  });
});

describe('manifest', () => {
  it('names the file and document of a missing field', () => {
    assert.throws(
      () =>
        parseManifest('a.yaml', 'apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n---\nkind: Pod\n'),
      /a\.yaml \(document 2\): apiVersion is missing/,
    );
  });

  it('names the file of broken YAML', () => {
    assert.throws(() => parseManifest('a.yaml', 'a: [1'), /a\.yaml: /);
  });

  it('unfolds lists and skips empty documents', () => {
    const text =
      'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: x}}\n---\n';
    assert.deepEqual(
      parseManifest('-', text).map((each) => each.object.metadata?.name),
      ['x'],
    );
  });
});

describe('label', () => {
  it('reads KEY=VALUE and KEY-', () => {
    assert.deepEqual(parseLabelChanges(['a=b', 'c-', 'd=']), { a: 'b', c: null, d: '' });
  });

  it('refuses other words', () => {
    assert.throws(() => parseLabelChanges(['what']), /neither/);
    assert.throws(() => parseLabelChanges([]), /at least one/);
  });

  it('finds labels that would change', () => {
    assert.deepEqual(labelConflicts({ a: '1', b: '2' }, { a: '2', b: '2', c: '3' }), ['a']);
    assert.deepEqual(labelConflicts({ a: '1' }, { a: null }), []);
  });
});

describe('get', () => {
  it('hides wide columns and adds the namespace', () => {
    const table = {
      columnDefinitions: [{ name: 'Name' }, { name: 'IP', priority: 1 }],
      rows: [{ cells: ['x', '10.0.0.1'], object: { metadata: { namespace: 'ns' } } }],
    };
    assert.equal(renderServerTable(table, false, true), 'NAMESPACE   NAME\nns          x');
    assert.equal(renderServerTable(table, true, false), 'NAME   IP\nx      10.0.0.1');
  });
});

describe('waypoint', () => {
  const options = { name: 'waypoint', class: 'istio-waypoint', namespace: 'shop' };

  it('builds the Gateway istioctl builds', () => {
    assert.deepEqual(buildWaypoint({ ...options, for: 'all' }), {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { name: 'waypoint', namespace: 'shop', labels: { 'istio.io/waypoint-for': 'all' } },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
  });

  it('refuses the name none and unknown traffic types', () => {
    assert.throws(() => buildWaypoint({ ...options, name: 'none' }), /none/);
    assert.throws(() => buildWaypoint({ ...options, for: 'udp' }), /--for must be one of/);
  });

  it('lists with the defaults of istioctl', () => {
    assert.deepEqual(listRows([{ metadata: { name: 'w', namespace: 'n' } }], true), [
      ['n', 'w', 'default', 'service', 'Unknown'],
    ]);
  });
});

describe('status', () => {
  it('counts enrolled pods and names the others, host network apart', () => {
    const pod = (name: string, enabled: boolean, hostNetwork = false) => ({
      metadata: {
        name,
        namespace: 'shop',
        annotations: enabled ? { 'ambient.istio.io/redirection': 'enabled' } : {},
      },
      spec: { hostNetwork },
    });
    const namespaces = [
      { metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } } },
      { metadata: { name: 'other' } },
    ];
    assert.deepEqual(
      summarizeNamespaces(namespaces, [pod('a', true), pod('b', false), pod('c', false, true)]),
      [
        {
          namespace: 'shop',
          mode: 'ambient',
          waypoint: 'none',
          pods: 2,
          enrolled: 1,
          notEnrolled: ['b'],
        },
      ],
    );
  });
});

describe('metrics', () => {
  it('reads samples with escaped labels', () => {
    const text = '# HELP x y\nx_total{a="q\\"\\n",b="2"} 3\nplain 4\n# EOF\n';
    assert.deepEqual(parseSamples(text), [
      { name: 'x_total', labels: { a: 'q"\n', b: '2' }, value: 3 },
      { name: 'plain', labels: {}, value: 4 },
    ]);
  });

  it('keeps L4 and L7 apart and counts failures', () => {
    const labels =
      'source_workload="c",source_workload_namespace="n",destination_workload="s",destination_workload_namespace="n",connection_security_policy="mutual_tls"';
    const edges = buildEdges(
      parseSamples(
        [
          `istio_tcp_connections_opened_total{reporter="source",${labels}} 5`,
          `istio_tcp_connections_opened_total{reporter="destination",${labels}} 5`,
          `istio_tcp_connections_failed_total{reporter="source",${labels}} 1`,
          `istio_requests_total{reporter="waypoint",response_code="200",${labels}} 7`,
          `istio_requests_total{reporter="waypoint",response_code="503",${labels}} 2`,
        ].join('\n'),
      ),
    );
    const common = { source: 'n/c', destination: 'n/s', security: 'mutual_tls' };
    assert.deepEqual(edges, [
      { layer: 'L4', ...common, total: 5, failed: 1 },
      { layer: 'L7', ...common, total: 9, failed: 2 },
    ]);
  });
});
