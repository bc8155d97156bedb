// Certificates from before the control plane's start: read over HTTP from the metrics of proxies, on addresses of this
// machine, and Events when they are not renewed.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import type { KubeObject } from '../../../common/kube/resource.ts';
import { CertificateWatch } from '../../../controlplane/ca/certificate-watch.ts';
import type { PlacedPod } from '../../../controlplane/ca/impersonation.ts';
import { ProxyCertificates } from '../../../controlplane/ca/proxy-certificates.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const HOUR_MS = 3_600_000;
const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const ZTUNNEL_IP = '127.0.77.1';
const WAYPOINT_IP = '127.0.77.2';
const PROXY = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  podName: 'zt-a',
  podUid: 'u',
};

type Pods = Map<string, PlacedPod & KubeObject>;

function pod(namespace: string, name: string, more: { ip: string; labels?: object }): KubeObject {
  return {
    metadata: {
      ...{ namespace, name, labels: { ...more.labels } },
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
    },
    spec: { nodeName: 'a', serviceAccountName: name.split('-')[0] ?? '' },
    status: { podIP: more.ip, phase: 'Running' },
  } as KubeObject;
}

const metric = (identity: string, secondsLeft: number): string =>
  `ambient_certificate_expiry_seconds{identity="${identity}"} ${secondsLeft}\n`;

/** The metrics port of a proxy. */
async function answer(test: TestContext, address: string, text: () => string): Promise<void> {
  const server = createServer((_request, response) => response.end(text()));
  server.listen(15_020, address);
  await once(server, 'listening');
  test.after(() => server.close());
}

/** A control plane's part that has just started. */
function start(test: TestContext) {
  const clock = new FakeClock(Date.parse('2026-01-01T00:00:00Z'));
  const seen: string[] = [];
  const pods: Pods = new Map([
    [
      'istio-system/zt-a',
      pod('istio-system', 'zt-a', { ip: ZTUNNEL_IP, labels: { app: 'ztunnel' } }),
    ],
    ['shop/cart-1', pod('shop', 'cart-1', { ip: '10.0.0.1' })],
  ]);
  const watch = new CertificateWatch({
    clock,
    pods: () => pods,
    record: ({ object, reason, note }) => {
      const words = /should have|soon expires|has expired/.exec(note)?.[0] ?? note;
      seen.push(`${object.metadata?.name ?? ''} ${reason} ${words}`);
      return Promise.resolve();
    },
  });
  const rootNamespace = 'istio-system';
  const reader = new ProxyCertificates({ clock, rootNamespace, pods: () => pods, watch });
  test.after(() => {
    reader.close();
    watch.close();
  });
  return { clock, pods, watch, reader, events: () => seen.splice(0) };
}

describe('certificates that another control plane process issued', () => {
  it('one that was issued before the start and is not renewed is an Event before its end', async (test) => {
    const { clock, reader, events } = start(test);
    await answer(test, ZTUNNEL_IP, () => metric(CART, 10 * 3600));
    await reader.read();
    await clock.advance(5.9 * HOUR_MS);
    assert.deepEqual(events(), []);
    await clock.advance(0.2 * HOUR_MS);
    assert.deepEqual(events(), ['cart-1 CertificateNotRenewed should have']);
    await clock.advance(4 * HOUR_MS);
    assert.deepEqual(events(), [
      'cart-1 CertificateNotRenewed soon expires',
      'cart-1 CertificateNotRenewed has expired',
    ]);
  });

  it('one that has expired is an Event at once, one that never was is none', async (test) => {
    const { clock, reader, events } = start(test);
    let secondsLeft = 0;
    await answer(test, ZTUNNEL_IP, () => metric(CART, secondsLeft));
    await reader.read();
    await clock.advance(60_000);
    assert.deepEqual(events(), []);
    const again = start(test);
    secondsLeft = -90;
    await again.reader.read();
    await again.clock.advance(60_000);
    assert.deepEqual(again.events(), ['cart-1 CertificateNotRenewed has expired']);
  });

  it('one that is renewed after the start is none, and what was issued here is known better', async (test) => {
    const { clock, watch, reader, events } = start(test);
    await answer(test, ZTUNNEL_IP, () => metric(CART, 3600));
    const issue = (): void => {
      const notAfterMs = clock.now() + 10 * HOUR_MS;
      watch.issued(PROXY, { identity: CART, notBeforeMs: clock.now(), notAfterMs });
    };
    await reader.read();
    await clock.advance(0.5 * HOUR_MS);
    issue();
    await reader.read();
    await clock.advance(5 * HOUR_MS);
    assert.deepEqual(events(), []);
    const other = start(test);
    const notAfterMs = other.clock.now() + 10 * HOUR_MS;
    other.watch.issued(PROXY, { identity: CART, notBeforeMs: other.clock.now(), notAfterMs });
    await other.reader.read();
    await other.clock.advance(5 * HOUR_MS);
    assert.deepEqual(other.events(), []);
  });

  it('a proxy that does not answer is read the next time, one that did is not read again', async (test) => {
    const { clock, reader, events } = start(test);
    await reader.read();
    let reads = 0;
    await answer(test, ZTUNNEL_IP, () => metric(CART, 3600 + reads++));
    await reader.read();
    await reader.read();
    assert.equal(reads, 1);
    await clock.advance(0.7 * HOUR_MS);
    assert.deepEqual(events(), ['cart-1 CertificateNotRenewed should have']);
  });

  it('a pod labelled as a waypoint is believed about itself only', async (test) => {
    const { clock, pods, reader, events } = start(test);
    const labels = { 'gateway.istio.io/managed': 'istio.io-mesh-controller' };
    pods.set('shop/waypoint-1', pod('shop', 'waypoint-1', { ip: WAYPOINT_IP, labels }));
    const own = 'spiffe://cluster.local/ns/shop/sa/waypoint';
    await answer(test, WAYPOINT_IP, () => metric(CART, 3600) + metric(own, 3600));
    await reader.read();
    await clock.advance(0.7 * HOUR_MS);
    assert.deepEqual(events(), ['waypoint-1 CertificateNotRenewed should have']);
  });
});
