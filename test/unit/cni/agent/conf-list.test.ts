import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chainEntry, isConfig, unchainEntry } from '../../../../cni/agent/conf-list.ts';

const ENTRY = { name: 'istio-cni', type: 'istio-cni', ambient_enabled: true };

function chained(text: string): unknown {
  return JSON.parse(chainEntry(text, ENTRY) ?? 'null');
}

describe('cni configuration', () => {
  it('appends the entry to a list, once', () => {
    const list = { cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'bridge' }] };
    const once = chainEntry(JSON.stringify(list), ENTRY) ?? '';
    assert.deepEqual(JSON.parse(once), { ...list, plugins: [{ type: 'bridge' }, ENTRY] });
    assert.equal(chainEntry(once, ENTRY), once);
  });

  it('makes a list of a single plugin', () => {
    assert.deepEqual(chained('{"type":"ptp","name":"x"}'), {
      name: 'k8s-pod-network',
      cniVersion: '0.3.1',
      plugins: [{ type: 'ptp', name: 'x' }, ENTRY],
    });
  });

  it('takes the entry out again', () => {
    const list = { name: 'n', plugins: [{ type: 'bridge' }, ENTRY] };
    assert.deepEqual(JSON.parse(unchainEntry(JSON.stringify(list)) ?? ''), {
      name: 'n',
      plugins: [{ type: 'bridge' }],
    });
  });

  for (const text of ['', 'nonsense', '[]', 'null', '{}', '{"plugins":[]}', '{"plugins":1}']) {
    it(`is not a configuration: ${text || 'nothing'}`, () => {
      assert.equal(isConfig(text), false);
      assert.equal(chainEntry(text, ENTRY), undefined);
    });
  }
});
