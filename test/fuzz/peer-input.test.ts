// What pods and peers write: SOCKS5, DNS over TCP, the head of a CONNECT, the facts of a PROXY header, certificates. In any
// pieces they mean the same as at once; noise gives a refusal or asks for more, and never anything else.
import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { frameMessage, MessageReader } from '../../common/dns/tcp-framing.ts';
import {
  firstIdentity,
  verifyExpected,
  verifyTrustDomain,
} from '../../common/hbone/peer-identity.ts';
import { encodeProxyHeader } from '../../common/hbone/proxy-protocol.ts';
import { joinHostPort, normalizeIp } from '../../common/workload/ip.ts';
import { WorkloadStore } from '../../common/workload/store.ts';
import { buildInboundRequest } from '../../ztunnel/proxy/inbound-request.ts';
import { readGreeting, readRequest } from '../../ztunnel/proxy/socks5-message.ts';
import { makeService, makeWorkload, memberOf } from '../support/mesh-builders.ts';

const RUNS = { numRuns: 500, seed: 20_261_123 };
const PORT = fc.integer({ min: 1, max: 65_535 });
const SOCKS_TYPE = { ipv4: 1, name: 3, ipv6: 4 } as const;

interface Wanted {
  readonly host: string;
  readonly port: number;
  readonly bytes: Buffer;
}

/** A SOCKS5 request by RFC 1928 section 4, written here a second time. */
const socksRequest: fc.Arbitrary<Wanted> = fc
  .tuple(
    fc.oneof(
      fc.uint8Array({ minLength: 4, maxLength: 4 }).map((raw) => ({ type: SOCKS_TYPE.ipv4, raw })),
      fc
        .uint8Array({ minLength: 16, maxLength: 16 })
        .map((raw) => ({ type: SOCKS_TYPE.ipv6, raw })),
      fc.domain().map((name) => ({ type: SOCKS_TYPE.name, raw: Buffer.from(name) })),
    ),
    PORT,
  )
  .map(([{ type, raw }, port]) => {
    const size = type === SOCKS_TYPE.name ? [raw.length] : [];
    const bytes = Buffer.from([5, 1, 0, type, ...size, ...raw, port >> 8, port & 255]);
    return { host: hostOf(type, Buffer.from(raw)), port, bytes };
  });

function hostOf(type: number, raw: Buffer): string {
  if (type === SOCKS_TYPE.name) return raw.toString();
  if (type === SOCKS_TYPE.ipv4) return [...raw].join('.');
  const groups = raw.toString('hex').match(/.{4}/g) ?? [];
  return normalizeIp(groups.join(':')) ?? '';
}

describe('socks5', () => {
  it('a request is read when it is whole, and what follows is not touched', () => {
    fc.assert(
      fc.property(socksRequest, fc.uint8Array({ maxLength: 20 }), ({ host, port, bytes }, rest) => {
        for (let cut = 0; cut < bytes.length; cut++) {
          assert.equal(readRequest(bytes.subarray(0, cut)), undefined, `at ${cut}`);
        }
        const found = readRequest(Buffer.concat([bytes, rest]));
        assert.partialDeepStrictEqual(found, { host, port, length: bytes.length });
      }),
      RUNS,
    );
  });

  it('a greeting is read when it is whole; without "no authentication" in it, it is refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 255 }), (methods) => {
        const bytes = Buffer.from([5, methods.length, ...methods]);
        for (let cut = 0; cut < bytes.length; cut++) {
          assert.equal(readGreeting(bytes.subarray(0, cut)), undefined, `at ${cut}`);
        }
        const found = readGreeting(bytes);
        assert.equal(found !== undefined && 'length' in found, methods.includes(0));
      }),
      RUNS,
    );
  });

  it('noise is refused or waited for, never longer than the longest message', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (noise) => {
        for (const read of [readGreeting, readRequest]) {
          const found = read(Buffer.from(noise));
          if (noise.length >= 263) assert.notEqual(found, undefined);
        }
      }),
      RUNS,
    );
  });
});

describe('dns over tcp', () => {
  it('the messages do not depend on the pieces they come in', () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 20 });
    const pieces = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(messages, pieces, (sent, sizes) => {
        const stream = Buffer.concat(sent.map(frameMessage));
        const reader = new MessageReader();
        const found: Buffer[] = [];
        for (let at = 0, piece = 0; at < stream.length; piece++) {
          const size = sizes[piece % sizes.length] ?? 1;
          found.push(...reader.push(stream.subarray(at, at + size)));
          at += size;
        }
        assert.deepEqual(
          found.map((one) => one.toString('hex')),
          sent.map((one) => Buffer.from(one).toString('hex')),
        );
      }),
      RUNS,
    );
  });
});

describe('the head of a CONNECT', () => {
  const store = new WorkloadStore();
  const server = makeWorkload('server', '10.0.0.2', { services: memberOf('web') });
  const tunnel = makeWorkload('tunnel', '10.0.0.7', {
    applicationTunnel: { protocol: 'PROXY', port: 9000 },
  });
  store.upsertWorkload(server);
  store.upsertWorkload(tunnel);
  store.upsertService(makeService('web', '10.96.0.1'));

  const host = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.domain(),
    fc.ipV4(),
    fc.ipV6().map((ip) => `[${ip}]`),
    fc.tuple(fc.ipV6(), fc.string()).map(([ip, zone]) => `[${ip}%${zone}]`),
    fc.constantFrom('10.0.0.2', 'web', 'web.default.svc.cluster.local', '10.96.0.1', '[::1]'),
  );
  const port = fc.oneof(PORT.map(String), fc.string(), fc.constantFrom('0', '65536', '-1', '080'));

  it('any authority leads to its pod alone, or nowhere', () => {
    for (const workload of [server, tunnel]) {
      const localIp = workload.ips[0] ?? '';
      fc.assert(
        fc.property(host, port, (name, number) => {
          const authority = `${name}:${number}`;
          const decision = buildInboundRequest({ store, workload, authority, localIp });
          if (decision.kind === 'refuse') return;
          const { address, port: dialled, proxyTarget } = decision;
          assert.ok(address === localIp || (proxyTarget !== undefined && address === '127.0.0.1'));
          assert.ok(dialled > 0 && dialled <= 65_535);
          if (proxyTarget !== undefined) assert.notEqual(normalizeIp(proxyTarget.ip), undefined);
        }),
        RUNS,
      );
    }
  });

  it('an address with a zone is refused: it would reach an application as 0.0.0.0', () => {
    const authority = '[fe80::1%eth0]:80';
    const decision = buildInboundRequest({
      store,
      workload: tunnel,
      authority,
      localIp: '10.0.0.7',
    });
    assert.partialDeepStrictEqual(decision, {
      kind: 'refuse',
      status: 400,
      reason: 'bad_authority',
    });
  });
});

describe('a PROXY header', () => {
  /** The reader of the specification (version 2, section 2.2), for what we write. */
  function read(header: Buffer): { ends: string[]; identity: string | undefined } {
    assert.equal(header.subarray(0, 12).toString('hex'), '0d0a0d0a000d0a515549540a');
    assert.equal(header[12], 0x21);
    const size = header[13] === 0x21 ? 16 : 4;
    assert.equal(header.readUInt16BE(14), header.length - 16);
    const ends = [0, 1].map((end) => {
      const ip = header.subarray(16 + end * size, 16 + (end + 1) * size);
      const port = header.readUInt16BE(16 + 2 * size + 2 * end);
      return joinHostPort(size === 4 ? ip.join('.') : hostOf(SOCKS_TYPE.ipv6, ip), port);
    });
    const rest = header.subarray(16 + 2 * size + 4);
    if (rest.length === 0) return { ends, identity: undefined };
    assert.equal(rest[0], 0xd0);
    assert.equal(rest.readUInt16BE(1), rest.length - 3);
    return { ends, identity: rest.subarray(3).toString() };
  }

  it('says what it was told, whatever the families', () => {
    const ip = fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => normalizeIp(text) ?? '');
    const end = fc.record({ ip, port: PORT });
    const identity = fc.option(fc.domain().map((td) => `spiffe://${td}/ns/a/sa/b`));
    fc.assert(
      fc.property(end, end, identity, (source, destination, id) => {
        const { ends, identity: found } = read(
          encodeProxyHeader(source, destination, id ?? undefined),
        );
        assert.deepEqual(
          ends,
          [source, destination].map((one) => joinHostPort(one.ip, one.port)),
        );
        assert.equal(found, id ?? undefined);
      }),
      RUNS,
    );
  });
});

describe('identities in a certificate', () => {
  it('any SANs: only one of the expected form is somebody, and none is longer than SPIFFE allows', () => {
    const part = fc.string({ unit: 'grapheme-ascii' });
    const like = fc
      .tuple(part, part, part)
      .map(([td, ns, sa]) => `spiffe://${td}/ns/${ns}/sa/${sa}`);
    const long = fc
      .integer({ min: 2000, max: 70_000 })
      .map((n) => `spiffe://td/ns/a/sa/${'b'.repeat(n)}`);
    fc.assert(
      fc.property(fc.array(fc.oneof(part, like, long), { maxLength: 4 }), (sans) => {
        const identity = firstIdentity(sans);
        assert.ok(identity === undefined || identity.length <= 2048);
        if (identity !== undefined) {
          assert.equal(verifyExpected([identity], sans), undefined);
          const end = { ip: '10.0.0.1', port: 1 };
          assert.ok(encodeProxyHeader(end, end, identity).length < 65_536);
        }
        assert.equal(typeof verifyExpected([], sans), 'string');
        verifyTrustDomain(['cluster.local'], sans);
      }),
      RUNS,
    );
  });

  it('no text that is an address is taken for a name, and no zone for an address', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6()), (text) => {
        const known = normalizeIp(text);
        if (known === undefined) assert.ok(isIP(text) === 0 || text.includes('%'), text);
        else assert.notEqual(isIP(text), 0, text);
      }),
      RUNS,
    );
  });
});
