// Everything a node proxy decodes from its control plane, its cni agent and its peers' headers: arbitrary bytes and
// mutations of good ones give a value or a MeshError, never anything else.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { MeshError } from '../../common/errors.ts';
import { decodeBaggage, decodeForwardedHost } from '../../common/hbone/baggage.ts';
import { readRevocations } from '../../common/hbone/revocation-lists.ts';
import { decodeAuthorization } from '../../common/policy/decode.ts';
import { AuthorizationSchema } from '../../common/policy/gen/authorization_pb.ts';
import { decodeAddress } from '../../common/workload/decode.ts';
import {
  AddressSchema,
  PortListSchema,
  WorkloadSchema,
} from '../../common/workload/gen/workload_pb.ts';
import { formatIp, normalizeIp, parseIp, splitHostPort } from '../../common/workload/ip.ts';
import { decodeAck, decodeHello, decodeRequest, encodeRequest } from '../../common/zds/codec.ts';

const RUNS = { numRuns: 500, seed: 20_261_122 };

function onlyMeshErrors(decode: () => unknown): void {
  try {
    decode();
  } catch (err) {
    assert.ok(err instanceof MeshError, String(err));
  }
}

/** Arbitrary bytes, and good bytes with a few of them changed or cut off. */
function bytesLike(good: Uint8Array): fc.Arbitrary<Uint8Array> {
  const mutated = fc
    .tuple(
      fc.array(fc.tuple(fc.nat(good.length), fc.nat(255)), { maxLength: 4 }),
      fc.nat(good.length),
    )
    .map(([changes, cut]) => {
      const bytes = Uint8Array.from(good);
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      return bytes.subarray(0, bytes.length - (cut % 8));
    });
  return fc.oneof(fc.uint8Array({ maxLength: 200 }), mutated);
}

const workload = toBinary(
  AddressSchema,
  create(AddressSchema, {
    type: {
      case: 'workload',
      value: create(WorkloadSchema, {
        uid: 'u',
        name: 'n',
        addresses: [Uint8Array.of(10, 0, 0, 1)],
        services: {
          'a/b': create(PortListSchema, { ports: [{ servicePort: 80, targetPort: 8080 }] }),
        },
      }),
    },
  }),
);
const policy = toBinary(
  AuthorizationSchema,
  create(AuthorizationSchema, {
    name: 'p',
    rules: [
      {
        clauses: [
          { matches: [{ sourceIps: [{ address: Uint8Array.of(10, 0, 0, 0), length: 8 }] }] },
        ],
      },
    ],
  }),
);
const add = encodeRequest({
  kind: 'add',
  uid: 'u',
  pod: { name: 'n', namespace: 'ns', serviceAccount: 'sa' },
});

describe('control input', () => {
  it('addresses', () => {
    fc.assert(
      fc.property(bytesLike(workload), (bytes) => onlyMeshErrors(() => decodeAddress(bytes))),
      RUNS,
    );
  });

  it('policies', () => {
    fc.assert(
      fc.property(bytesLike(policy), (bytes) =>
        onlyMeshErrors(() => decodeAuthorization(bytes, 'k')),
      ),
      RUNS,
    );
  });

  it('zds', () => {
    fc.assert(
      fc.property(bytesLike(add), (bytes) => {
        for (const decode of [decodeRequest, decodeAck, decodeHello]) {
          onlyMeshErrors(() => decode(bytes));
        }
      }),
      RUNS,
    );
  });

  it('revocation lists are lists, or unreadable with the reason', () => {
    const dir = mkdtempSync(join(tmpdir(), 'ambient-crl-'));
    const path = join(dir, 'ca-crl.pem');
    const block = (body: string): string =>
      `-----BEGIN X509 CRL-----\n${body}\n-----END X509 CRL-----\n`;
    const file = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.base64String().map(block),
      fc.array(fc.base64String().map(block), { maxLength: 3 }).map((all) => all.join('noise')),
    );
    try {
      fc.assert(
        fc.property(file, (text) => {
          writeFileSync(path, text);
          const found = readRevocations(path);
          if (found.kind === 'unreadable') assert.match(found.problem, /ca-crl\.pem/);
          else assert.deepEqual(found, { kind: 'lists', pem: '' });
        }),
        RUNS,
      );
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('baggage and forwarded headers never throw', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        decodeBaggage([['baggage', value]]);
        decodeForwardedHost([['forwarded', value]]);
      }),
      RUNS,
    );
  });

  it('authorities never throw, and an address survives the round trip', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6()), (text) => {
        splitHostPort(text);
        const bytes = parseIp(text);
        if (bytes === undefined) return;
        const canonical = formatIp(bytes);
        assert.equal(normalizeIp(canonical ?? ''), canonical);
        assert.deepEqual(parseIp(canonical ?? ''), bytes);
      }),
      RUNS,
    );
  });
});
