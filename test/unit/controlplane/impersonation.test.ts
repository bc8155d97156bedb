// Who may have which identity.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decideIdentity } from '../../../controlplane/ca/impersonation.ts';
import type { PlacedPod, RefusalReason } from '../../../controlplane/ca/impersonation.ts';
import type { TokenIdentity } from '../../../common/kube/token-review.ts';

function pod(
  namespace: string,
  name: string,
  serviceAccountName: string,
  nodeName: string,
  phase = 'Running',
): [string, PlacedPod] {
  return [
    `${namespace}/${name}`,
    {
      metadata: { namespace, name, uid: `uid-${name}` },
      spec: { serviceAccountName, nodeName },
      status: { phase },
    },
  ];
}

const pods = new Map([
  pod('istio-system', 'zt-a', 'ztunnel', 'a'),
  pod('istio-system', 'zt-b', 'ztunnel', 'b'),
  pod('istio-system', 'fake', 'other', 'a'),
  pod('shop', 'cart-1', 'cart', 'a'),
  pod('shop', 'pay-1', 'pay', 'b'),
  pod('shop', 'dead-1', 'dead', 'a', 'Failed'),
  pod('shop', 'new-1', 'new', 'a', 'Pending'),
]);
const ztunnel: TokenIdentity = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  podName: 'zt-a',
  podUid: 'uid-zt-a',
};
const cart: TokenIdentity = {
  namespace: 'shop',
  serviceAccount: 'cart',
  podName: 'cart-1',
  podUid: 'uid-cart-1',
};
const id = (sa: string, td = 'cluster.local', ns = 'shop'): string =>
  `spiffe://${td}/ns/${ns}/sa/${sa}`;

const CASES: ReadonlyArray<
  readonly [string, TokenIdentity, string | undefined, RefusalReason | { identity: string }]
> = [
  ['a workload gets its own identity', cart, undefined, { identity: id('cart') }],
  ['an empty request is for oneself', cart, '', { identity: id('cart') }],
  ['a workload may not speak for another', cart, id('pay'), 'not a node proxy'],
  ['nor for itself by impersonation', cart, id('cart'), 'not a node proxy'],
  ['a node proxy gets those of its node', ztunnel, id('cart'), { identity: id('cart') }],
  ['also of a pod that is starting', ztunnel, id('new'), { identity: id('new') }],
  ['not of a failed pod', ztunnel, id('dead'), 'no such pod on the node'],
  ['not of another node', ztunnel, id('pay'), 'no such pod on the node'],
  [
    'not of the same account name elsewhere',
    ztunnel,
    id('cart', 'cluster.local', 'bank'),
    'no such pod on the node',
  ],
  ['not in another trust domain', ztunnel, id('cart', 'evil'), 'foreign trust domain'],
  ['not a malformed one', ztunnel, 'spiffe://cluster.local/cart', 'malformed identity'],
  [
    'not with a token of no pod',
    { namespace: 'istio-system', serviceAccount: 'ztunnel' },
    id('cart'),
    'token names no pod',
  ],
  [
    'not when its pod is unknown',
    { ...ztunnel, podName: 'zt-x' },
    id('cart'),
    'caller pod unknown',
  ],
  [
    'not with the uid of an earlier pod',
    { ...ztunnel, podUid: 'old' },
    id('cart'),
    'caller pod unknown',
  ],
  [
    'not by naming a pod of another account',
    { ...ztunnel, podName: 'fake', podUid: 'uid-fake' },
    id('cart'),
    'caller pod unknown',
  ],
];

describe('impersonation', () => {
  for (const [name, caller, impersonated, expected] of CASES) {
    it(name, () => {
      const decision = decideIdentity({
        caller,
        impersonated,
        trustDomain: 'cluster.local',
        nodeAccounts: ['istio-system/ztunnel'],
        pods,
      });
      if (typeof expected === 'string')
        assert.deepEqual(decision, { isAllowed: false, reason: expected });
      else assert.deepEqual(decision, { isAllowed: true, ...expected });
    });
  }
});
