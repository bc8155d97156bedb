// Istio's Authorization as it is taken: a policy with a part that is not understood is refused as a whole.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { decodeAuthorization } from '../../../../common/policy/decode.ts';
import { AuthorizationSchema } from '../../../../common/policy/gen/authorization_pb.ts';

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
