// What a hostile or broken peer does to a node proxy: each act gives exactly one line and one count, with a reason,
// and a healthy connection through the same proxy goes on. Real processes, real sockets, pods as network namespaces.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { badCertificates } from '../support/bad-certificates.ts';
import type { BadCertificates } from '../support/bad-certificates.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const SERVER = '10.77.0.3';
const CLIENT_IDENTITY = 'spiffe://cluster.local/ns/default/sa/outside';
const STALLED = 'handshake_timeout';
const REFUSED = 'ambient_connections_refused_total';

interface Row {
  readonly name: string;
  readonly act: string;
  readonly certificate?: keyof BadCertificates;
  /** What the peer sees. */
  readonly sees: string;
  readonly reason: string;
  /** In the line's `error`. */
  readonly says: RegExp;
}

const ROWS: readonly Row[] = [
  {
    name: 'an expired certificate',
    act: 'tunnel',
    certificate: 'expired',
    sees: 'ended',
    reason: 'tls_failure',
    says: /certificate has expired/,
  },
  {
    name: 'a certificate that is not valid yet',
    act: 'tunnel',
    certificate: 'notYetValid',
    sees: 'ended',
    reason: 'tls_failure',
    says: /not yet valid/,
  },
  {
    name: 'a certificate of another root',
    act: 'tunnel',
    certificate: 'otherRoot',
    sees: 'ended',
    reason: 'tls_failure',
    says: /unable to get local issuer certificate/,
  },
  {
    name: 'a certificate with a forged signature',
    act: 'tunnel',
    certificate: 'forged',
    sees: 'ended',
    reason: 'tls_failure',
    says: /certificate signature failure/,
  },
  {
    name: 'a malformed certificate',
    act: 'tunnel',
    certificate: 'malformed',
    sees: 'ended',
    reason: 'tls_failure',
    says: /handshake: /,
  },
  {
    name: 'a certificate without an identity',
    act: 'tunnel',
    certificate: 'withoutIdentity',
    sees: 'ended',
    reason: 'identity_mismatch',
    says: /no identity of trust domain cluster\.local/,
  },
  {
    name: 'a certificate whose identity is not one',
    act: 'tunnel',
    certificate: 'badIdentity',
    sees: 'ended',
    reason: 'identity_mismatch',
    says: /no identity of trust domain cluster\.local/,
  },
  {
    name: 'a certificate of another trust domain',
    act: 'tunnel',
    certificate: 'otherTrustDomain',
    sees: 'ended',
    reason: 'identity_mismatch',
    says: /no identity of trust domain cluster\.local/,
  },
  {
    name: 'garbage instead of TLS',
    act: 'garbage',
    sees: 'ended',
    reason: 'tls_failure',
    says: /handshake: /,
  },
  {
    name: 'a reset in the handshake',
    act: 'reset-in-handshake',
    sees: 'reset',
    reason: 'io_error',
    says: /handshake/,
  },
  {
    name: 'oversized headers, on their stream only',
    act: 'large-headers',
    sees: 'reset 2 200',
    reason: 'limit_exceeded',
    says: /request headers exceed 65536 bytes/,
  },
  {
    name: 'a malformed request',
    act: 'malformed-request',
    sees: 'reset',
    reason: 'h2_failure',
    says: /malformed request/,
  },
  {
    name: 'broken HTTP/2',
    act: 'broken-http2',
    sees: 'goaway',
    reason: 'h2_failure',
    says: /peer broke http\/2/,
  },
  {
    name: 'a connection reset in mid-stream',
    act: 'reset-connection',
    sees: 'reset',
    reason: 'downstream_reset',
    says: /./,
  },
  {
    name: 'a stream reset in mid-stream, on its stream only',
    act: 'reset-stream',
    sees: '200',
    reason: 'tunnel_failed',
    says: /stream reset by peer, code 2/,
  },
];

let certificates: BadCertificates;
let healthy: ChildProcess;

/** Lines of the access log that have a reason, since `from`. */
function failures(from: number): Record<string, unknown>[] {
  return mesh
    .log('b')
    .slice(from)
    .split('\n')
    .filter((line) => line.includes('"reason"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** The healthy connection carries a line there and back. */
async function ping(text: string): Promise<void> {
  assert.ok(healthy.stdin && healthy.stdout);
  assert.equal(healthy.exitCode, null);
  const answered = once(healthy.stdout, 'data');
  healthy.stdin.write(`${text}\n`);
  const [answer] = (await answered) as [Buffer];
  assert.equal(answer.toString(), `server saw 10.77.0.1: ${text}\n`);
}

before(async () => {
  await mesh.start();
  certificates = badCertificates(mesh.root, CLIENT_IDENTITY);
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const { name } of PODS.slice(0, 2)) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
  healthy = mesh.client('client', SERVER, 8080);
});

after(() => mesh.close());

describe('bad input on 15008', () => {
  let stalled: Promise<string>;

  it('a healthy connection runs, and another peer stalls in its handshake', async () => {
    await ping('before');
    stalled = mesh.misbehave('outside', 'stall', SERVER, certificates.good);
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, certificates.good), '200');
  });

  for (const { name, act, certificate = 'good', sees, reason, says } of ROWS) {
    it(`${name}: one line, one count, ${reason}`, async () => {
      const [from, counted] = [mesh.log('b').length, await countOf(reason)];
      assert.equal(await mesh.misbehave('outside', act, SERVER, certificates[certificate]), sees);
      // The stall may end now; its line is looked at last.
      const own = (): Record<string, unknown>[] =>
        failures(from).filter((one) => one['reason'] !== STALLED);
      await eventually('it has a line', () => own().length > 0);
      const [line, ...more] = own();
      assert.deepEqual(more, []);
      assert.equal(line?.['reason'], reason);
      assert.match(String(line['error']), says);
      assert.match(String(line['src.addr']), /^10\.77\.0\.5:\d+$/);
      await eventually('it is counted', async () => (await countOf(reason)) === counted + 1);
      await ping(name);
    });
  }

  it('the stalled handshake is given up after 10 s: one line, one count', async () => {
    assert.equal(await stalled, 'ended');
    const stalls = (): unknown[] => failures(0).filter((one) => one['reason'] === STALLED);
    await eventually('it has a line', () => stalls().length > 0);
    await ping('after');
    // Nothing came late and nothing was counted twice.
    assert.equal(failures(0).length, ROWS.length + 1);
    await eventually('every line is counted', async () => (await countOf('')) === ROWS.length + 1);
    assert.equal(await countOf(STALLED), 1);
  });
});

/** Refused connections with that reason; all with an empty one. */
function countOf(reason: string): Promise<number> {
  return mesh.metric('b', REFUSED, reason === '' ? '' : `reason="${reason}"`);
}
