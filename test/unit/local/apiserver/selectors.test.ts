import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  matchesSelector,
  parseFieldSelector,
  parseLabelSelector,
} from '../../../../local/apiserver/selectors.ts';
import type { KubeObject } from '../../../../local/apiserver/objects.ts';
import { StatusError } from '../../../../local/apiserver/status-error.ts';

function pod(labels: Record<string, string>, rest: object = {}): KubeObject {
  const metadata = { name: 'a', uid: '1', resourceVersion: '1', creationTimestamp: '', labels };
  return { apiVersion: 'v1', kind: 'Pod', metadata, ...rest };
}

describe('label selectors', () => {
  const rows: [string, Record<string, string>, boolean][] = [
    ['app=web', { app: 'web' }, true],
    ['app==web', { app: 'web' }, true],
    ['app=web', { app: 'db' }, false],
    ['app!=web', {}, true],
    ['app in (web, db)', { app: 'db' }, true],
    ['app in (web,db),tier=x', { app: 'db' }, false],
    ['app notin (web)', {}, true],
    ['app notin (web)', { app: 'web' }, false],
    ['app', { app: '' }, true],
    ['!app', { app: '' }, false],
    ['example.com/a.b=c', { 'example.com/a.b': 'c' }, true],
    ['app=', { app: '' }, true],
  ];
  for (const [selector, labels, expected] of rows) {
    it(`${selector} on ${JSON.stringify(labels)} is ${expected}`, () => {
      assert.equal(parseLabelSelector(selector)?.(pod(labels)), expected);
    });
  }

  it('an empty selector selects everything', () => {
    assert.equal(parseLabelSelector(''), undefined);
  });

  it('a malformed selector is refused', () => {
    assert.throws(() => parseLabelSelector('a b c'), StatusError);
  });
});

describe('field selectors', () => {
  it('compare any scalar field, absent ones being empty', () => {
    const object = pod({}, { spec: { nodeName: 'n1' }, status: {} });
    assert.equal(parseFieldSelector('spec.nodeName=n1')?.(object), true);
    assert.equal(parseFieldSelector('spec.nodeName!=n1')?.(object), false);
    assert.equal(parseFieldSelector('metadata.name=a,status.phase=')?.(object), true);
  });
});

describe('LabelSelector objects', () => {
  it('combine matchLabels and matchExpressions', () => {
    const selector = {
      matchLabels: { app: 'web' },
      matchExpressions: [
        { key: 'tier', operator: 'In', values: ['front'] },
        { key: 'old', operator: 'DoesNotExist' },
      ],
    };
    assert.equal(matchesSelector(selector, { app: 'web', tier: 'front' }), true);
    assert.equal(matchesSelector(selector, { app: 'web', tier: 'front', old: '' }), false);
    assert.equal(matchesSelector(selector, { app: 'web' }), false);
    assert.equal(matchesSelector({}, {}), true);
  });
});
