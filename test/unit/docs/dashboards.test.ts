// Every query of the Grafana dashboards names metrics and labels that a program of ours exports, and L4 and L7 do not
// mix.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { FamilyDefinition } from '../../../common/telemetry/series-table.ts';
import { CONTROL_FAMILIES } from '../../../ztunnel/admin/control-metrics.ts';
import { TRAFFIC_FAMILIES } from '../../../ztunnel/proxy/traffic-families.ts';
import { L7_SIGHT_FAMILIES } from '../../../ztunnel/proxy/l7-series.ts';
import { WAYPOINT_FAMILIES } from '../../../waypoint/telemetry/metrics.ts';

const SUFFIXES = { counter: ['_total'], gauge: [''], histogram: ['_bucket', '_sum', '_count'] };
// prom-client's, of every process.
const PROCESS = ['process_cpu_seconds_total', 'process_resident_memory_bytes'];
// The scrape adds it.
const SCRAPE_LABELS = ['instance', 'le'];
const WORDS = /\b(sum|rate|histogram_quantile|by|and|on)\b/g;

const namesOf = (families: readonly FamilyDefinition[]): string[] =>
  families.flatMap(({ name, type }) => SUFFIXES[type].map((suffix) => `${name}${suffix}`));

interface Dashboard {
  readonly templating: { readonly list: readonly { readonly definition?: string }[] };
  readonly panels: readonly {
    readonly title: string;
    readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  }[];
}

/** Metric names and label names of a query. */
function parseQuery(query: string): { readonly metrics: string[]; readonly labels: string[] } {
  const labels: string[] = [];
  const bare = query
    .replace(/\[[^\]]*\]/g, '')
    .replace(/"[^"]*"/g, '""')
    .replace(/\{([^}]*)\}/g, (_, inner: string) => {
      labels.push(...[...inner.matchAll(/([a-z_]+)\s*[=!]/g)].map(([, name = '']) => name));
      return '';
    })
    .replace(/\b(?:by|on) \(([^)]*)\)/g, (_, inner: string) => {
      labels.push(...inner.split(',').map((name) => name.trim()));
      return '';
    })
    .replace(WORDS, '');
  return { metrics: [...bare.matchAll(/[a-z][a-z0-9_]+/g)].map(([name]) => name), labels };
}

/** Whether a source file writes that label: `['name', ...]`, also by side, or `name=` and `name:`. */
function isLabelOf(file: string, label: string): boolean {
  const text = readFileSync(file, 'utf8').replace(
    /`\$\{side\}(_\w+)`/g,
    (_, name: string) => `'source${name}' 'destination${name}'`,
  );
  return new RegExp(`'${label}'|\\b${label}\\b *[=:]|\\b${label} *}`).test(text);
}

for (const [file, families, source, foreign] of [
  [
    'manifests/dashboards/ambient-l4.json',
    [...TRAFFIC_FAMILIES, ...L7_SIGHT_FAMILIES, ...CONTROL_FAMILIES],
    [
      'ztunnel/proxy/traffic-labels.ts',
      'ztunnel/proxy/connection-result.ts',
      'ztunnel/proxy/l7-series.ts',
    ],
    /istio_request/,
  ],
  [
    'manifests/dashboards/ambient-l7.json',
    WAYPOINT_FAMILIES,
    ['waypoint/telemetry/metrics.ts'],
    /istio_tcp/,
  ],
] as const) {
  describe(file, () => {
    const dashboard = JSON.parse(readFileSync(file, 'utf8')) as Dashboard;
    const exported = new Set([...namesOf(families), ...PROCESS]);
    const targets = dashboard.panels.flatMap(({ title, targets = [] }) =>
      targets.map((target) => ({ title, ...target })),
    );

    it('has queries', () => assert.ok(targets.length >= 12));

    it('uses only metrics that the program exports', () => {
      for (const { title, expr } of targets) {
        const { metrics } = parseQuery(expr);
        assert.ok(metrics.length > 0, title);
        assert.deepEqual(
          metrics.filter((name) => !exported.has(name)),
          [],
          title,
        );
        assert.doesNotMatch(expr, foreign, title);
      }
      const [, name = ''] = /label_values\((\w+),/.exec(JSON.stringify(dashboard.templating)) ?? [];
      assert.ok(exported.has(name), name);
    });

    it('uses only labels that these metrics have, in queries and legends', () => {
      for (const { title, expr, legendFormat } of targets) {
        const legend = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, name = '']) => name);
        const { labels } = parseQuery(expr);
        for (const label of [...labels, ...legend]) {
          const isKnown =
            SCRAPE_LABELS.includes(label) || source.some((each) => isLabelOf(each, label));
          assert.ok(isKnown, `${title}: ${label}`);
        }
        for (const label of legend) assert.ok(labels.includes(label), `${title}: ${label}`);
      }
    });
  });
}
