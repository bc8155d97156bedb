// The headers of HBONE: baggage and forwarded, and which peers are accepted.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  decodeBaggage,
  decodeForwardedHost,
  encodeBaggage,
  encodeForwarded,
} from '../../../../common/hbone/baggage.ts';
import {
  firstIdentity,
  isWorkloadIdentity,
  verifyExpected,
  verifyTrustDomain,
} from '../../../../common/hbone/peer-identity.ts';

const FULL = {
  clusterId: 'Kubernetes',
  namespace: 'default',
  workloadType: 'deployment',
  workloadName: 'productpage-v1',
  canonicalName: 'productpage',
  canonicalRevision: 'v1',
  region: 'r1',
  zone: 'z1',
};

describe('baggage', () => {
  it('is written in the order of Istio, without empty parts', () => {
    assert.equal(
      encodeBaggage(FULL),
      'k8s.cluster.name=Kubernetes,k8s.namespace.name=default,' +
        'k8s.deployment.name=productpage-v1,service.name=productpage,service.version=v1,' +
        'cloud.region=r1,cloud.availability_zone=z1',
    );
    assert.equal(encodeBaggage({ namespace: 'a', region: '' }), 'k8s.namespace.name=a');
  });

  it('is read back, from several lines, later keys first', () => {
    assert.deepEqual(decodeBaggage([['baggage', encodeBaggage(FULL)]]), FULL);
    assert.deepEqual(
      decodeBaggage([
        ['baggage', 'service.name=a,x,=,k8s.namespace.name='],
        ['baggage', 'service.name=b'],
      ]),
      { canonicalName: 'b' },
    );
    assert.deepEqual(decodeBaggage([['baggage', 'service.name=\u00e9']]), {});
  });

  it('never throws on any text', () => {
    fc.assert(fc.property(fc.string(), (text) => void decodeBaggage([['baggage', text]])));
    fc.assert(fc.property(fc.string(), (text) => void decodeForwardedHost([['forwarded', text]])));
  });
});

describe('forwarded', () => {
  it('has the source and the host', () => {
    assert.equal(encodeForwarded({ address: '10.0.0.1', port: 80 }), 'for="10.0.0.1:80"');
    assert.equal(
      encodeForwarded({ address: 'fd00::1', port: 80, host: 'a.b' }),
      'for="[fd00::1]:80";host=a.b',
    );
    assert.equal(decodeForwardedHost([['forwarded', 'for="1.1.1.1:1"; host="a.b"']]), 'a.b');
    assert.equal(decodeForwardedHost([['forwarded', 'for=x;host=']]), undefined);
  });
});

describe('peer identity', () => {
  const id = 'spiffe://cluster.local/ns/a/sa/b';
  const rows: [uri: string, isIdentity: boolean][] = [
    [id, true],
    ['spiffe://td/ns//sa/', true],
    ['spiffe://td/ns/a/sa/b/', false],
    ['spiffe://td/sa/b/ns/a', false],
    ['spiffe://td', false],
    ['https://td/ns/a/sa/b', false],
  ];
  for (const [uri, isIdentity] of rows) {
    it(`${uri} is ${isIdentity ? 'one' : 'none'}`, () => {
      assert.equal(isWorkloadIdentity(uri), isIdentity);
    });
  }

  it('is the first that parses', () => {
    assert.equal(firstIdentity(['spiffe://td', id]), id);
    assert.equal(firstIdentity([]), undefined);
  });

  it('must be expected, and of our trust domain', () => {
    assert.equal(verifyExpected([id], ['x', id]), undefined);
    assert.match(verifyExpected([], [id]) ?? '', /expected none/);
    assert.match(verifyExpected(['other'], []) ?? '', /unknown/);
    assert.match(verifyExpected(['x'], ['x']) ?? '', /unknown/, 'what is no identity is nobody’s');
    assert.equal(verifyTrustDomain(['cluster.local'], [id]), undefined);
    assert.match(verifyTrustDomain(['other'], [id]) ?? '', /trust domain other/);
  });
});
