// Who is at both ends of an inbound tunnel: the record of the address, what baggage says, the service that was meant; and
// the labels that come of it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TunnelRequest } from '../../../../common/hbone/types.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { forwardedService, inboundParties } from '../../../../ztunnel/proxy/inbound-parties.ts';
import { trafficLabels } from '../../../../ztunnel/proxy/traffic-labels.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';

type HeaderList = TunnelRequest['headers'];

const ID = 'spiffe://cluster.local/ns/default/sa/client';
const server = makeWorkload('server', '10.0.0.2', {
  network: 'here',
  services: memberOf('web', 'api'),
});
const store = new WorkloadStore();
store.upsertWorkload(server);
store.upsertWorkload(makeWorkload('client', '10.0.0.1', { network: 'here' }));
for (const name of ['web', 'api']) store.upsertService(makeService(name, ''));

function requestOf(headers: HeaderList, peerIdentity = ID, peerAddress = '10.0.0.1') {
  return {
    ...{ authority: '10.0.0.2:8080', headers, peerIdentity, peerAddress, peerPort: 1 },
    ...{ localAddress: '10.0.0.2', localPort: 15_008, onAbort: undefined },
    accept: () => assert.fail('nothing is decided here'),
    refuse: () => undefined,
  };
}

const BAGGAGE = [
  'baggage',
  'k8s.cluster.name=far,k8s.namespace.name=shop,k8s.deployment.name=web-v1,service.name=web,service.version=v1,' +
    'cloud.region=r,cloud.availability_zone=z',
] as const;
const from = (network: string): readonly [string, string] => ['x-forwarded-network', network];

/** The workload, application and namespace that labels name as the source. */
function sourceIn(
  headers: HeaderList,
  more: { identity?: string; address?: string; isBaggage?: boolean } = {},
): string {
  const config = { network: 'here', sendsResponseBaggage: more.isBaggage ?? true };
  const request = requestOf(headers, more.identity, more.address);
  const parties = inboundParties({ store, config }, request, server, undefined);
  const labels = new Map(trafficLabels(parties, '-'));
  const [name, app, namespace] = ['workload', 'app', 'workload_namespace'].map((part) =>
    labels.get(`source_${part}`),
  );
  return `${name} ${app} ${namespace} ${labels.get('source_principal') === ID}`;
}

describe('the source of an inbound tunnel', () => {
  const known = 'client client default true';
  const told = 'web-v1 web-v1 shop true';
  const rows: readonly (readonly [string, string, string])[] = [
    ['is the workload at its address, whatever its baggage says', sourceIn([BAGGAGE]), known],
    ['from another network is what its baggage says', sourceIn([BAGGAGE, from('far')]), told],
    ['from our network is the workload at its address', sourceIn([BAGGAGE, from('HERE')]), known],
    [
      'at an address that nobody knows is what its baggage says',
      sourceIn([BAGGAGE], { address: '10.0.0.9' }),
      told,
    ],
    [
      'with another identity than the record is what its baggage says',
      sourceIn([BAGGAGE], { identity: `${ID}x` }),
      'web-v1 web-v1 shop false',
    ],
    [
      'without record and baggage is unknown, but for its identity',
      sourceIn([from('far')]),
      'unknown unknown unknown true',
    ],
    [
      'is not taken from baggage with ENABLE_RESPONSE_BAGGAGE=false',
      sourceIn([BAGGAGE], { address: '10.0.0.9', isBaggage: false }),
      'unknown unknown unknown true',
    ],
  ];
  for (const [claim, found, wanted] of rows) it(claim, () => assert.equal(found, wanted));
});

describe('the service of an inbound tunnel', () => {
  const hostIn = (forwarded: string): string | undefined =>
    forwardedService(store, requestOf([['forwarded', forwarded]]), server)?.name;

  it('is the one among the workload’s own that the client names', () => {
    assert.equal(hostIn('for="10.0.0.1:1";host=api.default.svc.cluster.local'), 'api');
    assert.equal(hostIn('for="10.0.0.1:1";host=web.default.svc.cluster.local'), 'web');
    assert.equal(hostIn('for="10.0.0.1:1";host=other.default.svc.cluster.local'), undefined);
    assert.equal(hostIn('for="10.0.0.1:1"'), undefined);
  });
});
