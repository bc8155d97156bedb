// When a pod gets an Event about certificates, on a clock of the test's own.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { EventNote } from '../../../common/kube/events.ts';
import type { KubeObject } from '../../../common/kube/resource.ts';
import { CertificateWatch } from '../../../controlplane/ca/certificate-watch.ts';
import type { PlacedPod } from '../../../controlplane/ca/impersonation.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const HOUR_MS = 3_600_000;
const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const PROXY = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  podName: 'zt-a',
  podUid: 'u',
};

function pod(namespace: string, name: string, account: string, node: string): [string, KubeObject] {
  const annotations = { 'ambient.istio.io/redirection': 'enabled' };
  const object = {
    metadata: { namespace, name, annotations },
    spec: { nodeName: node, serviceAccountName: account },
  };
  return [`${namespace}/${name}`, object];
}

function setUp() {
  const clock = new FakeClock(Date.parse('2026-01-01T00:00:00Z'));
  const events: EventNote[] = [];
  const pods = new Map<string, PlacedPod & KubeObject>([
    pod('istio-system', 'zt-a', 'ztunnel', 'a'),
    pod('shop', 'cart-1', 'cart', 'a'),
    pod('shop', 'cart-2', 'cart', 'b'),
    pod('shop', 'other', 'other', 'a'),
    pod('shop', 'waypoint-1', 'waypoint', 'b'),
  ]);
  const watch = new CertificateWatch({
    clock,
    pods: () => pods,
    record: (event) => {
      events.push(event);
      return Promise.resolve();
    },
  });
  const issue = (caller = PROXY, identity = CART): void =>
    watch.issued(caller, {
      identity,
      notBeforeMs: clock.now(),
      notAfterMs: clock.now() + 10 * HOUR_MS,
    });
  const seen = (): string[] =>
    events
      .splice(0)
      .map(({ object, reason, note }) => `${object.metadata?.name ?? ''} ${reason}: ${note}`);
  return { clock, pods, watch, issue, seen };
}

const note = (words: string): string =>
  `cart-1 CertificateNotRenewed: the certificate of ${CART} at istio-system/zt-a ${words} (2026-01-01T10:00:00.000Z)`;

describe('events about certificates', () => {
  it('one for each threshold that a certificate passes, on the pods of that node that need it', async () => {
    const { clock, watch, issue, seen } = setUp();
    issue();
    await clock.advance(5.9 * HOUR_MS);
    assert.deepEqual(seen(), []);
    await clock.advance(0.2 * HOUR_MS);
    assert.deepEqual(seen(), [note('should have been renewed')]);
    await clock.advance(1.8 * HOUR_MS);
    assert.deepEqual(seen(), []);
    await clock.advance(0.2 * HOUR_MS);
    assert.deepEqual(seen(), [note('was not renewed and soon expires')]);
    await clock.advance(3 * HOUR_MS);
    assert.deepEqual(seen(), [note('was not renewed and has expired')]);
    watch.close();
  });

  it('none for what is renewed in time, and none any more once it is renewed', async () => {
    const { clock, watch, issue, seen } = setUp();
    for (let at = 0; at < 4; at++) {
      issue();
      await clock.advance(5 * HOUR_MS);
    }
    assert.deepEqual(seen(), []);
    await clock.advance(1.1 * HOUR_MS);
    assert.equal(seen().length, 1);
    issue();
    await clock.advance(5 * HOUR_MS);
    assert.deepEqual(seen(), []);
    watch.close();
  });

  it('none for an identity that no pod of the node has any more, or when the proxy is gone', async () => {
    for (const gone of ['shop/cart-1', 'istio-system/zt-a']) {
      const { clock, pods, watch, issue, seen } = setUp();
      issue();
      pods.delete(gone);
      await clock.advance(11 * HOUR_MS);
      assert.deepEqual(seen(), [], gone);
      watch.close();
    }
  });

  it('a waypoint that does not renew its own certificate gets it itself', async () => {
    const { clock, watch, issue, seen } = setUp();
    const caller = {
      namespace: 'shop',
      serviceAccount: 'waypoint',
      podName: 'waypoint-1',
      podUid: 'u',
    };
    issue(caller, 'spiffe://cluster.local/ns/shop/sa/waypoint');
    await clock.advance(6.1 * HOUR_MS);
    assert.match(seen().join(), /^waypoint-1 CertificateNotRenewed: /);
    watch.close();
  });

  it('a proxy that is refused again and again gets one, until it has had a certificate', () => {
    const { watch, issue, seen } = setUp();
    const refuse = (times: number): void => {
      for (let at = 0; at < times; at++) watch.refused(PROXY, 'no such pod on the node');
    };
    refuse(2);
    issue();
    refuse(2);
    assert.deepEqual(seen(), []);
    refuse(10);
    assert.deepEqual(seen(), [
      'zt-a CertificateRefused: certificates are refused to this pod: no such pod on the node',
    ]);
    watch.close();
  });
});
