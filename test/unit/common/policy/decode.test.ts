// Istio's Authorization as it is taken: a policy with a part that is not understood is refused as a whole.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { decodeAuthorization } from '../../../../common/policy/decode.ts';
import { AuthorizationSchema } from '../../../../common/policy/gen/authorization_pb.ts';
import { encodeMessage } from '../../../conformance/wire.ts';
import type { Message } from '../../../conformance/wire.ts';
import { makeMatch } from '../../../support/mesh-builders.ts';

type Init = Parameters<typeof create<typeof AuthorizationSchema>>[1];

const decoded = (init: object) =>
  decodeAuthorization(
    toBinary(AuthorizationSchema, create(AuthorizationSchema, init as Init)),
    'n/p',
  );
const matching = (match: object): object => ({ rules: [{ clauses: [{ matches: [match] }] }] });

describe('a policy of the control plane', () => {
  it('allows everywhere unless it says otherwise', () => {
    assert.deepEqual(decoded({ name: 'p', namespace: 'n' }), {
      ...{ key: 'n/p', name: 'p', namespace: 'n', scope: 'GLOBAL', action: 'ALLOW' },
      ...{ isDryRun: false, rules: [] },
    });
  });

  it('has each field of the wire, written by number, in its place', () => {
    const range = (ip: string, length: number): object => ({ 1: { ip }, 2: length });
    const match = {
      ...{ 1: [{ 1: 'a' }, { 2: 'b' }], 2: { 3: 'c' }, 3: { 4: {} }, 4: { 1: 'd' } },
      ...{ 5: range('10.0.0.0', 8), 6: range('10.1.0.0', 16), 7: range('10.2.0.0', 17) },
      ...{ 8: range('fd00::', 64), 9: [80, 443], 10: 90 },
      ...{ 11: { 1: 'n1', 2: 's1' }, 12: { 1: 'n2', 2: 's2' } },
    };
    const second = { 2: { 9: 81 } };
    const bytes = encodeMessage({
      ...{ 1: 'p', 2: 'n', 3: 2, 4: 1, 6: true },
      5: [{ 1: [{ 2: [match, { 9: 82 }] }, second] }, { 1: { 2: { 9: 83 } } }],
    } as Message);
    const ports = (...destinationPorts: number[]): object => makeMatch({ destinationPorts });
    const cidr = (length: number, ...head: number[]): object => ({
      bytes: Uint8Array.from({ length: 4 }, (_, at) => head[at] ?? 0),
      length,
    });
    assert.deepEqual(decodeAuthorization(bytes, 'n/p'), {
      ...{ key: 'n/p', name: 'p', namespace: 'n', scope: 'WORKLOAD_SELECTOR', action: 'DENY' },
      isDryRun: true,
      rules: [
        [
          [
            {
              namespaces: [
                { kind: 'exact', value: 'a' },
                { kind: 'prefix', value: 'b' },
              ],
              notNamespaces: [{ kind: 'suffix', value: 'c' }],
              principals: [{ kind: 'presence' }],
              notPrincipals: [{ kind: 'exact', value: 'd' }],
              sourceIps: [cidr(8, 10)],
              notSourceIps: [cidr(16, 10, 1)],
              destinationIps: [cidr(17, 10, 2)],
              notDestinationIps: [
                { bytes: Uint8Array.from([0xfd, ...new Uint8Array(15)]), length: 64 },
              ],
              ...{ destinationPorts: [80, 443], notDestinationPorts: [90] },
              serviceAccounts: [{ namespace: 'n1', serviceAccount: 's1' }],
              notServiceAccounts: [{ namespace: 'n2', serviceAccount: 's2' }],
            },
            ports(82),
          ],
          [ports(81)],
        ],
        [[ports(83)]],
      ],
    });
  });

  it('of each scope is of that scope', () => {
    const scopes = [0, 1, 2].map((n) => decodeAuthorization(encodeMessage({ 3: n }), 'n/p').scope);
    assert.deepEqual(scopes, ['GLOBAL', 'NAMESPACE', 'WORKLOAD_SELECTOR']);
  });

  it('a match with nothing set stays one that matches nothing', () =>
    assert.equal(decoded(matching({})).rules[0]?.[0]?.length, 1));

  const refused: readonly [claim: string, init: object, reason: RegExp][] = [
    ['an unknown scope', { scope: 9 }, /unknown scope 9/],
    ['an unknown action', { action: 7 }, /unknown action 7/],
    ['a string match of no kind', matching({ principals: [{}] }), /without a kind/],
    ['a range of no address', matching({ sourceIps: [{ length: 8 }] }), /cidr of 0 bytes/],
    [
      'a range longer than its address',
      matching({ notDestinationIps: [{ address: new Uint8Array(4), length: 33 }] }),
      /prefix length 33/,
    ],
  ];
  for (const [claim, init, reason] of refused) {
    it(`is refused for ${claim}`, () => assert.throws(() => decoded(init), reason));
  }
});
