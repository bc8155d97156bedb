// What a hostile or broken peer does to a waypoint's HBONE listener: each act gives exactly one line and one count,
// with a reason, and a healthy connection goes on. The waypoint is a real process.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { act } from '../../support/bad-peer.ts';
import type { ACTS } from '../../support/bad-peer.ts';
import { badCertificates } from '../../support/bad-certificates.ts';
import type { BadCertificates } from '../../support/bad-certificates.ts';
import { CLIENT_IDENTITY, VIP, WaypointFixture } from '../../support/waypoint-fixture.ts';

type Row = readonly [
  name: string,
  act: keyof typeof ACTS,
  certificate: keyof BadCertificates,
  sees: string,
  reason: string,
];

const ROWS: readonly Row[] = [
  ['an expired certificate', 'tunnel', 'expired', 'ended', 'tls_failure'],
  ['a certificate of another root', 'tunnel', 'otherRoot', 'ended', 'tls_failure'],
  ['a forged certificate', 'tunnel', 'forged', 'ended', 'tls_failure'],
  ['a malformed certificate', 'tunnel', 'malformed', 'ended', 'tls_failure'],
  ['no identity', 'tunnel', 'withoutIdentity', 'ended', 'identity_mismatch'],
  ['another trust domain', 'tunnel', 'otherTrustDomain', 'ended', 'identity_mismatch'],
  ['garbage instead of TLS', 'garbage', 'good', 'ended', 'tls_failure'],
  ['a reset in the handshake', 'reset-in-handshake', 'good', 'reset', 'io_error'],
  ['oversized headers', 'large-headers', 'good', 'reset 2 200', 'limit_exceeded'],
  ['a malformed request', 'malformed-request', 'good', 'reset', 'h2_failure'],
  ['broken HTTP/2', 'broken-http2', 'good', 'goaway', 'h2_failure'],
];
const HOST = 'web.demo.svc.cluster.local';
const STALLED = 'handshake_timeout';

let waypoint: WaypointFixture;
let certificates: BadCertificates;
let stalled: Promise<string>;

function suffer(name: string, certificate: keyof BadCertificates): Promise<string> {
  return act(name, {
    host: '127.0.0.1',
    port: waypoint.ports.hbone,
    tls: certificates[certificate],
    authority: `${VIP}:80`,
  });
}

/** Log lines with that reason. */
function lines(reason: string): string[] {
  return waypoint.output.split('\n').filter((line) => line.includes(`"reason":"${reason}"`));
}

/** Refused connections with that reason. */
async function countOf(reason: string): Promise<number> {
  const name = `ambient_mesh_waypoint_refused_connections_total{reason="${reason}"} `;
  const line = (await waypoint.metrics()).split('\n').find((one) => one.startsWith(name));
  return line === undefined ? 0 : Number(line.slice(name.length));
}

async function eventually(claim: string, check: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!(await check())) {
    assert.ok(Date.now() < deadline, claim);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

before(async () => {
  waypoint = await WaypointFixture.start({
    workloads: {
      services: [
        {
          name: 'web',
          namespace: 'demo',
          hostname: HOST,
          vips: [`/${VIP}`],
          ports: { 80: 0 },
        },
      ],
    },
    l7: {
      serviceRoutes: [
        {
          namespace: 'demo',
          hostname: HOST,
          name: 'web',
          ports: [{ servicePort: 80, protocol: 'HTTP', routes: [] }],
        },
      ],
    },
  });
  certificates = badCertificates(waypoint.root, CLIENT_IDENTITY);
});
after(() => waypoint.close());

describe('bad input on a waypoint', () => {
  it('a healthy connection is served, and another peer stalls in its handshake', async () => {
    stalled = suffer('stall', 'good');
    assert.equal(await suffer('tunnel', 'good'), '200');
  });

  for (const [name, what, certificate, sees, reason] of ROWS) {
    it(`${name}: one line, one count, ${reason}`, async () => {
      const before = [lines(reason).length, await countOf(reason)];
      assert.equal(await suffer(what, certificate), sees);
      const now = async (): Promise<string> =>
        [lines(reason).length, await countOf(reason)].join(' ');
      const expected = before.map((count) => count + 1).join(' ');
      await eventually(
        `one more line and count of ${reason}`,
        async () => (await now()) === expected,
      );
      assert.equal(await suffer('tunnel', 'good'), '200');
    });
  }

  it('the stalled handshake is given up after 10 s: one line, one count', async () => {
    assert.equal(await stalled, 'ended');
    await eventually(
      'one line and one count',
      async () => lines(STALLED).length === 1 && (await countOf(STALLED)) === 1,
    );
    // Nothing came late and nothing was counted twice.
    const all = waypoint.output.split('\n').filter((line) => line.includes('"reason":'));
    assert.equal(all.length, ROWS.length + 1, all.join('\n'));
  });
});
