import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  decideEligibility,
  DEFAULT_SELECTORS,
  type EligiblePod,
} from '../../../../cni/rules/eligibility.ts';
import { matchesSelector } from '../../../../common/label-selector.ts';

const OPTIONS = {
  systemNamespace: 'istio-system',
  excludedNamespaces: ['kube-system'],
  selectors: DEFAULT_SELECTORS,
};
const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const NONE = { 'istio.io/dataplane-mode': 'none' };

interface Row {
  readonly name: string;
  readonly pod?: EligiblePod['metadata'] | object;
  readonly spec?: EligiblePod['spec'];
  readonly phase?: string;
  readonly namespace?: Readonly<Record<string, string>>;
  readonly reason: string;
}

const ROWS: readonly Row[] = [
  { name: 'a pod of a labelled namespace', namespace: AMBIENT, reason: 'selected' },
  { name: 'a labelled pod', pod: { labels: AMBIENT }, reason: 'selected' },
  { name: 'no label', reason: 'not_selected' },
  {
    name: 'a pod that opts out',
    pod: { labels: NONE },
    namespace: AMBIENT,
    reason: 'not_selected',
  },
  {
    name: 'a labelled pod of a namespace labelled none',
    pod: { labels: AMBIENT },
    namespace: NONE,
    reason: 'selected',
  },
  {
    name: 'host network, whatever the labels say',
    pod: { labels: AMBIENT },
    spec: { hostNetwork: true },
    namespace: AMBIENT,
    reason: 'host_network',
  },
  {
    name: 'a pod with a sidecar',
    pod: { annotations: { 'sidecar.istio.io/status': '{}' } },
    namespace: AMBIENT,
    reason: 'sidecar',
  },
  {
    name: 'the node proxy itself',
    pod: { namespace: 'istio-system', labels: { app: 'ztunnel', ...AMBIENT } },
    reason: 'ztunnel',
  },
  {
    name: 'an excluded namespace',
    pod: { namespace: 'kube-system', labels: AMBIENT },
    reason: 'excluded_namespace',
  },
  { name: 'a finished pod', namespace: AMBIENT, phase: 'Succeeded', reason: 'finished' },
];

describe('eligibility', () => {
  for (const row of ROWS) {
    it(`${row.name}: ${row.reason}`, () => {
      const pod: EligiblePod = {
        metadata: { name: 'p', namespace: 'shop', ...row.pod },
        ...(row.spec === undefined ? {} : { spec: row.spec }),
        ...(row.phase === undefined ? {} : { status: { phase: row.phase } }),
      };
      assert.deepEqual(decideEligibility(pod, row.namespace ?? {}, OPTIONS), {
        isEligible: row.reason === 'selected',
        reason: row.reason,
      });
    });
  }

  it('matches selectors as Kubernetes does', () => {
    const match = (operator: string, values: string[], labels: Record<string, string>): boolean =>
      matchesSelector(labels, { matchExpressions: [{ key: 'k', operator, values }] });
    assert.equal(matchesSelector({}, {}), true);
    assert.equal(match('In', ['a'], { k: 'a' }), true);
    assert.equal(match('In', ['a'], {}), false);
    assert.equal(match('NotIn', ['a'], {}), true);
    assert.equal(match('Exists', [], { k: '' }), true);
    assert.equal(match('DoesNotExist', [], { k: '' }), false);
    assert.equal(match('Unknown', [], { k: '' }), false);
  });
});
