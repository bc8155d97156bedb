// Everything a node proxy decodes from its control plane, its cni agent and its peers' headers: arbitrary bytes and
// mutations of good ones give a value or a MeshError, never anything else.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { systemClock } from '../../common/clock.ts';
import { MeshError } from '../../common/errors.ts';
import { decodeBaggage, decodeForwardedHost } from '../../common/hbone/baggage.ts';
import { readRevocations } from '../../common/hbone/revocation-lists.ts';
import { toPem } from '../../common/identity/asn1.ts';
import { CertificateAuthority, createRoot } from '../../common/identity/ca.ts';
import { buildCsr, generateKeyPair, parseCsr } from '../../common/identity/csr.ts';
import { readCertificate, splitPem } from '../../common/identity/x509.ts';
import { decodeAuthorization } from '../../common/policy/decode.ts';
import { AuthorizationSchema } from '../../common/policy/gen/authorization_pb.ts';
import { decodeAddress } from '../../common/workload/decode.ts';
import {
  AddressSchema,
  PortListSchema,
  WorkloadSchema,
} from '../../common/workload/gen/workload_pb.ts';
import { formatIp, normalizeIp, parseIp, splitHostPort } from '../../common/workload/ip.ts';
import { readDeltaPush } from '../../common/xds/delta-push.ts';
import { DeltaDiscoveryResponseSchema } from '../../common/xds/gen/discovery_pb.ts';
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

const TYPE_URL = 'type.googleapis.com/istio.workload.Address';

function pushOf(names: readonly string[], removed: readonly string[], nonce: string): Uint8Array {
  const resources = names.map((name) => ({
    name,
    version: name.length.toString(),
    aliases: [name, nonce],
    resource: { typeUrl: TYPE_URL, value: Buffer.from(name) },
  }));
  return toBinary(
    DeltaDiscoveryResponseSchema,
    create(DeltaDiscoveryResponseSchema, {
      typeUrl: TYPE_URL,
      nonce,
      removedResources: [...removed],
      resources,
    }),
  );
}

function derOf(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----[A-Z ]+-----/g, ''), 'base64');
}

describe('control input', () => {
  it('pushes are read as they were written, and any bytes are read or refused, without more than there is', () => {
    const names = fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 5 });
    fc.assert(
      fc.property(names, names, fc.string(), (added, removed, nonce) => {
        const push = readDeltaPush(pushOf(added, removed, nonce));
        assert.equal(push.typeUrl, TYPE_URL);
        assert.equal(push.nonce, nonce);
        assert.deepEqual(push.removedResources, removed);
        const wanted = added.map((name) => ({
          name,
          version: name.length.toString(),
          aliases: [name, nonce],
          value: Buffer.from(name).toString('hex'),
        }));
        const found = [...push.resources].map(({ value, ...rest }) => ({
          ...rest,
          value: Buffer.from(value).toString('hex'),
        }));
        assert.deepEqual(found, wanted);
      }),
      RUNS,
    );
    fc.assert(
      fc.property(bytesLike(pushOf(['a', 'b/c'], ['d'], 'n')), (bytes) =>
        onlyMeshErrors(() => {
          for (const { value } of readDeltaPush(bytes).resources) {
            assert.ok(value.length <= bytes.length);
          }
        }),
      ),
      RUNS,
    );
  });

  it('certificates and requests for them are read or refused', () => {
    const authority = new CertificateAuthority(createRoot('td', systemClock), systemClock);
    const identity = 'spiffe://td/ns/a/sa/b';
    const csr = buildCsr(identity, generateKeyPair());
    const [leaf = ''] = authority.issueWorkload(parseCsr(csr).publicKeyDer, identity, 600);
    assert.deepEqual(readCertificate(leaf).uriSans, [identity]);
    const cases: readonly (readonly [string, string, (pem: string) => unknown])[] = [
      ['CERTIFICATE', leaf, readCertificate],
      ['CERTIFICATE REQUEST', csr, parseCsr],
    ];
    for (const [label, good, read] of cases) {
      fc.assert(
        fc.property(bytesLike(derOf(good)), (der) => onlyMeshErrors(() => read(toPem(label, der)))),
        RUNS,
      );
      fc.assert(
        fc.property(bytesLike(Buffer.from(good)), (bytes) => {
          const pem = Buffer.from(bytes).toString('latin1');
          onlyMeshErrors(() => read(pem));
          assert.ok(splitPem(pem).join('').length <= pem.length + 1);
        }),
        RUNS,
      );
    }
  });

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
