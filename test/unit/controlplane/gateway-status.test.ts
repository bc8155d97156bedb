// Status and objects of a waypoint.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildGatewayStatus, isSameStatus } from '../../../controlplane/deploy/gateway-status.ts';
import type { GatewayFacts } from '../../../controlplane/deploy/gateway-status.ts';
import { buildWaypoint } from '../../../controlplane/deploy/waypoint-objects.ts';
import type {
  GatewayObject,
  GatewayStatus,
} from '../../../controlplane/deploy/waypoint-objects.ts';

const gateway: GatewayObject = {
  metadata: { namespace: 'shop', name: 'waypoint', uid: 'u1', generation: 3 },
  spec: {
    gatewayClassName: 'istio-waypoint',
    listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
  },
};
const facts: GatewayFacts = {
  clusterIps: ['10.96.0.9'],
  hostname: 'waypoint.shop.svc.cluster.local',
  readyEndpoints: 1,
};
const condition = (status: GatewayStatus, type: string): string =>
  (status.conditions ?? [])
    .filter((found) => found.type === type)
    .map(({ status: value, reason }) => `${value} ${reason}`)
    .join();
const build = (object: GatewayObject, change: Partial<GatewayFacts> = {}, now = 'T1') =>
  buildGatewayStatus(object, { ...facts, ...change }, now);

describe('gateway status', () => {
  it('has no address before an endpoint is ready', () => {
    const status = build(gateway, { readyEndpoints: 0 });
    assert.deepEqual(status.addresses, []);
    assert.equal(condition(status, 'Accepted'), 'True Accepted');
    assert.equal(condition(status, 'Programmed'), 'False Pending');
  });

  it('has the cluster address and the host name when ready', () => {
    const status = build(gateway);
    assert.deepEqual(status.addresses, [
      { type: 'IPAddress', value: '10.96.0.9' },
      { type: 'Hostname', value: 'waypoint.shop.svc.cluster.local' },
    ]);
    assert.equal(condition(status, 'Programmed'), 'True Programmed');
  });

  it('keeps the addresses when the last endpoint goes', () => {
    const ready = { ...gateway, status: build(gateway) };
    const status = build(ready, { readyEndpoints: 0 }, 'T2');
    assert.equal(isSameStatus(ready.status, status), true);
  });

  it('has only the type of address asked for', () => {
    const annotations = { 'networking.istio.io/address-type': 'Hostname' };
    const only = { ...gateway, metadata: { ...gateway.metadata, annotations } };
    assert.deepEqual(
      build(only).addresses?.map(({ type }) => type),
      ['Hostname'],
    );
  });

  it('dates only what changed', () => {
    const before = { ...gateway, status: build(gateway, { readyEndpoints: 0 }) };
    const times = build(before, {}, 'T2').conditions?.map(
      ({ lastTransitionTime }) => lastTransitionTime,
    );
    assert.deepEqual(times, ['T1', 'T2']);
  });

  it('says what is in the way', () => {
    const status = build(gateway, { problem: 'service waypoint exists', clusterIps: [] });
    assert.equal(condition(status, 'Accepted'), 'False Invalid');
    assert.equal(condition(status, 'Programmed'), 'False Pending');
  });

  it('warns about a listener that is not a mesh listener, and accepts it', () => {
    const odd = {
      ...gateway,
      spec: { ...gateway.spec, listeners: [{ name: 'x', port: 80, protocol: 'HTTP' }] },
    };
    const [accepted] = build(odd).conditions ?? [];
    assert.equal(accepted?.status, 'True');
    assert.match(accepted.message, /HBONE and port 15008/);
  });
});

describe('waypoint objects', () => {
  const settings = {
    image: 'ambient-mesh/waypoint:latest',
    imagePullPolicy: 'IfNotPresent',
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    crlConfigMap: '',
    clusterId: 'Kubernetes',
    controlPlaneAddress: 'istiod.istio-system.svc:15012',
  };

  it('have trust domain aliases and revocation lists where the mesh has', () => {
    const textOf = (more: object): string =>
      JSON.stringify(buildWaypoint(gateway, { ...settings, ...more }).deployment);
    assert.doesNotMatch(textOf({}), /CRL_PATH|TRUST_DOMAIN_ALIASES|istio-crl/);
    const text = textOf({ trustDomainAliases: ['old', 'older'], crlConfigMap: 'lists' });
    assert.match(text, /"name":"TRUST_DOMAIN_ALIASES","value":"old,older"/);
    assert.match(text, /"name":"CRL_PATH","value":"\/var\/run\/secrets\/istio-crl\/ca-crl.pem"/);
    assert.match(text, /"name":"istio-ca-crl","configMap":\{"name":"lists","optional":true\}/);
    assert.match(text, /"name":"istio-ca-crl","mountPath":"\/var\/run\/secrets\/istio-crl"/);
  });

  it('are owned by the gateway and are never captured', () => {
    const objects = buildWaypoint(gateway, settings);
    for (const object of Object.values(objects) as GatewayObject[]) {
      assert.equal(object.metadata?.name, 'waypoint');
      assert.equal(object.metadata.ownerReferences?.[0]?.uid, 'u1');
    }
    const text = JSON.stringify(objects.deployment);
    assert.match(text, /"istio.io\/dataplane-mode":"none"/);
    assert.match(text, /"gateway.istio.io\/managed":"istio.io-mesh-controller"/);
    assert.match(text, /"audience":"istio-ca"/);
  });

  it('take other names from annotations', () => {
    const annotations = {
      'gateway.istio.io/name-override': 'wp',
      'gateway.istio.io/service-account': 'wp-sa',
    };
    const named = { ...gateway, metadata: { ...gateway.metadata, annotations } };
    const objects = buildWaypoint(named, settings);
    assert.equal(objects.service.metadata?.name, 'wp');
    assert.equal(objects.serviceAccount.metadata?.name, 'wp-sa');
    assert.match(JSON.stringify(objects.deployment), /"serviceAccountName":"wp-sa"/);
  });
});
