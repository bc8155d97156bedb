import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderServerTable } from '../../../cli/commands/get.ts';
import { labelConflicts, parseLabelChanges } from '../../../cli/commands/label.ts';
import { loggingPath } from '../../../cli/commands/proxy.ts';
import { summarizeNamespaces } from '../../../cli/commands/status.ts';
import { buildWaypoint, listRows } from '../../../cli/commands/waypoint.ts';
import { connectionEdges, observedEdges, requestEdges } from '../../../cli/traffic.ts';
import { parseManifest } from '../../../common/kube/manifest.ts';
import { formatAge, formatBytes, formatTable } from '../../../cli/output.ts';
import { parseSamples } from '../../../common/telemetry/samples.ts';

describe('output', () => {
  it('pads columns to their widest cell', () => {
    assert.equal(formatTable(['A', 'B'], [['long', 'x']]), 'A      B\nlong   x');
  });

  it('writes bytes in binary units', () => {
    assert.deepEqual([0, 1023, 1536, 3 << 20].map(formatBytes), [
      '0 B',
      '1023 B',
      '1.5 KiB',
      '3.0 MiB',
    ]);
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
    const plain = { isWide: false, withNamespace: false, withLabels: false };
    assert.equal(
      renderServerTable(table, { ...plain, withNamespace: true }),
      'NAMESPACE   NAME\nns          x',
    );
    assert.equal(
      renderServerTable(table, { ...plain, isWide: true }),
      'NAME   IP\nx      10.0.0.1',
    );
    assert.equal(
      renderServerTable(table, { ...plain, withLabels: true }),
      'NAME   LABELS\nx      <none>',
    );
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
  it('counts enrolled pods and names the others, host network and waypoints apart', () => {
    const pod = (
      name: string,
      enabled: boolean,
      hostNetwork = false,
      labels: Record<string, string> = {},
    ) => ({
      metadata: {
        name,
        namespace: 'shop',
        labels,
        annotations: enabled ? { 'ambient.istio.io/redirection': 'enabled' } : {},
      },
      spec: { hostNetwork },
    });
    const namespaces = [
      { metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } } },
      { metadata: { name: 'other' } },
    ];
    assert.deepEqual(
      summarizeNamespaces(namespaces, [
        pod('a', true),
        pod('b', false),
        pod('c', false, true),
        pod('d', false, false, { 'istio.io/dataplane-mode': 'none' }),
        pod('e', false, false, { 'gateway.networking.k8s.io/gateway-name': 'waypoint' }),
      ]),
      [
        {
          namespace: 'shop',
          mode: 'ambient',
          waypoint: 'none',
          pods: 3,
          enrolled: 1,
          optedOut: ['d'],
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

  const labels =
    'source_workload="c",source_workload_namespace="n",destination_workload="s",destination_workload_namespace="n",connection_security_policy="mutual_tls"';

  it('sums connections where their source was seen, else where their destination was', () => {
    const outside = labels.replace('"c"', '"outside"').replace('mutual_tls', 'unknown');
    const samples = parseSamples(
      [
        `istio_tcp_connections_opened_total{reporter="source",response_flags="-",${labels}} 5`,
        `istio_tcp_connections_opened_total{reporter="destination",response_flags="-",${labels}} 5`,
        `istio_tcp_connections_closed_total{reporter="source",response_flags="-",${labels}} 3`,
        `istio_tcp_connections_failed_total{reporter="source",response_flags="DENY",${labels}} 1`,
        `istio_tcp_sent_bytes_total{reporter="source",${labels}} 2048`,
        `istio_tcp_connections_opened_total{reporter="destination",${outside}} 2`,
        `istio_requests_total{reporter="waypoint",response_code="200",${labels}} 7`,
      ].join('\n'),
    );
    const none = { closed: 0, failed: 0, sentBytes: 0, receivedBytes: 0 };
    const [source, destination] = ['n/c', 'n/s'];
    assert.deepEqual(connectionEdges(samples), [
      {
        ...none,
        ...{ source, destination, security: 'mutual_tls', opened: 5, closed: 3, failed: 1 },
        sentBytes: 2048,
      },
      { ...none, source: 'n/outside', destination, security: 'unknown', opened: 2 },
    ]);
  });

  it('sums requests by class, with quantiles of their durations', () => {
    const request = `${labels},destination_service="s.n.svc.cluster.local",request_protocol="http"`;
    const duration = 'istio_request_duration_milliseconds_bucket';
    const samples = parseSamples(
      [
        `istio_requests_total{reporter="waypoint",response_code="200",${request}} 7`,
        `istio_requests_total{reporter="waypoint",response_code="503",${request}} 3`,
        `${duration}{le="10",response_code="200",${request}} 7`,
        `${duration}{le="+Inf",response_code="200",${request}} 7`,
        `${duration}{le="10",response_code="503",${request}} 3`,
        `${duration}{le="+Inf",response_code="503",${request}} 3`,
        `istio_tcp_connections_opened_total{reporter="source",${labels}} 5`,
      ].join('\n'),
    );
    assert.deepEqual(requestEdges(samples), [
      {
        source: 'n/c',
        destination: 'n/s',
        service: 's.n.svc.cluster.local',
        protocol: 'http',
        total: 10,
        codes: { '2xx': 7, '5xx': 3 },
        p50: 5,
        p99: 9.9,
      },
    ]);
  });
});

describe('requests that node proxies observed', () => {
  it('are counted once, by code class, and apart from those of waypoints', () => {
    const pair =
      'source_workload="c",source_workload_namespace="n",destination_workload="s",destination_workload_namespace="n",destination_service="s.n.svc",request_protocol="grpc"';
    const total = 'ambient_mesh_l7_requests_total';
    const bucket = 'ambient_mesh_l7_request_duration_milliseconds_bucket';
    const samples = parseSamples(
      [
        `${total}{reporter="source",${pair},response_code_class="2xx"} 7`,
        `${total}{reporter="source",${pair},response_code_class="none"} 1`,
        `${total}{reporter="destination",${pair},response_code_class="2xx"} 8`,
        `${bucket}{le="10",reporter="source",${pair},response_code_class="2xx"} 8`,
        `${bucket}{le="+Inf",reporter="source",${pair},response_code_class="2xx"} 8`,
        `${bucket}{le="+Inf",reporter="destination",${pair},response_code_class="2xx"} 8`,
      ].join('\n'),
    );
    assert.deepEqual(observedEdges(samples), [
      {
        source: 'n/c',
        destination: 'n/s',
        service: 's.n.svc',
        protocol: 'grpc',
        total: 8,
        codes: { '2xx': 7, '0xx': 1 },
        p50: 5,
        p99: 9.9,
      },
    ]);
    assert.deepEqual(requestEdges(samples), []);
  });
});

describe('log-level', () => {
  it('takes levels and levels by scope, and refuses other words', () => {
    assert.equal(
      loggingPath('xds=debug,app=info', false),
      '/logging?level=xds%3Ddebug%2Capp%3Dinfo',
    );
    assert.equal(loggingPath(undefined, true), '/logging?reset');
    assert.throws(() => loggingPath('loud', false), /no level/);
  });
});
