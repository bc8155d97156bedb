// Revocation lists at real node proxies: read from a file, reloaded while running, both ways, new and established.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { badCertificates } from '../support/bad-certificates.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';
import { revocationList } from '../support/revocation-list.ts';

const mesh = new NetnsMesh();
const dir = mkdtempSync(join(tmpdir(), 'crl-'));
const path = join(dir, 'crl.pem');
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const SERVER = '10.77.0.3';
const { good } = badCertificates(mesh.root, 'spiffe://cluster.local/ns/default/sa/outside');

/** The leaf that a node's proxy shows for a pod. */
async function leafOf(node: string, name: string): Promise<string> {
  const { certificates } = (await mesh.configDump(node)) as {
    certificates: { identity: string; certChain: { pem: string }[] }[];
  };
  const found = certificates.find(({ identity }) => identity.endsWith(`/sa/${name}`));
  assert.ok(found?.certChain[0]);
  return Buffer.from(found.certChain[0].pem, 'base64').toString();
}

async function revokeBy(lists: string): Promise<void> {
  const counts = ['a', 'b'].map((node) => mesh.log(node).split('lists are in force').length);
  writeFileSync(path, lists);
  await eventually('both proxies have read the lists', () =>
    ['a', 'b'].every((node, at) => {
      return mesh.log(node).split('lists are in force').length > (counts[at] ?? 0);
    }),
  );
}

function revoke(...certificates: string[]): Promise<void> {
  return revokeBy(revocationList(mesh.root, certificates));
}

before(async () => {
  writeFileSync(path, revocationList(mesh.root, []));
  mesh.proxyEnv['CRL_PATH'] = path;
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const { name } of PODS.slice(0, 2)) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
});

after(async () => {
  await mesh.close();
  rmSync(dir, { recursive: true, force: true });
});

describe('revocation lists', () => {
  it('a list that revokes nobody refuses nobody', async () => {
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, good), '200');
  });

  it('a client that is revoked is refused, and others are not', async () => {
    await revoke(good.cert);
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, good), 'ended');
    await eventually('it is counted', async () => {
      const labels = ['reason="certificate_revoked"', 'response_flags="CERT_REVOKED"'];
      return (await mesh.metric('b', 'ambient_connections_refused_total', ...labels)) === 1;
    });
    await eventually('by Istio’s name too', async () => {
      const rejections = 'istio_crl_policy_rejections_total';
      return (await mesh.metric('b', rejections, 'reporter="destination"')) === 1;
    });
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
  });

  it('a list past its time still counts', async () => {
    await revokeBy(revocationList(mesh.root, [good.cert], 2 * 3_600_000));
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, good), 'ended');
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
  });

  it('an established connection ends when its client is revoked: the server’s proxy ends it', async () => {
    const running = mesh.client('client', SERVER, 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const ended = once(running, 'close');
    await revoke(await leafOf('a', 'client'));
    await ended;
    const line =
      /"direction":"inbound"[^\n]*"error":"peer certificate revoked by CRL"[^\n]*"response_flags":"CERT_REVOKED"/;
    await eventually('the destination says why', () => line.test(mesh.log('b')));
    assert.equal((await mesh.ask('client', SERVER)).status, 3);
    await revoke();
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
  });

  it('an established connection ends when its peer is revoked, and new ones are refused', async () => {
    const running = mesh.client('client', SERVER, 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const ended = once(running, 'close');
    await revoke(await leafOf('b', 'server'));
    await ended;
    await eventually('the source says why', () =>
      /"error":"peer certificate revoked by CRL","reason":"certificate_revoked"/.test(
        mesh.log('a'),
      ),
    );
    assert.equal((await mesh.ask('client', SERVER)).status, 3);
    await eventually('it is counted', async () => {
      const rejections = 'istio_crl_policy_rejections_total';
      return (await mesh.metric('a', rejections, 'reporter="source"')) >= 2;
    });
  });

  it('a file that cannot be read leaves the lists in force; lists that revoke less let in again', async () => {
    writeFileSync(path, 'not a list');
    await eventually('it is told', () => mesh.log('a').includes('lists cannot be read'));
    assert.equal((await mesh.ask('client', SERVER)).status, 3);
    rmSync(path);
    await eventually('that it has gone too', () => /no such file/.test(mesh.log('a')));
    assert.equal((await mesh.ask('client', SERVER)).status, 3);
    await revoke();
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
  });

  it('a proxy that starts without readable lists trusts nobody until they are mended', async () => {
    writeFileSync(path, 'not a list');
    await mesh.endProxy('b', 'SIGKILL');
    await mesh.startProxy('b');
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, good), 'ended');
    await eventually('it says why', () =>
      /not certificate revocation lists","reason":"certificate_unavail/.test(mesh.log('b')),
    );
    writeFileSync(path, revocationList(mesh.root, []));
    await eventually(
      'it serves again',
      async () => (await mesh.misbehave('outside', 'tunnel', SERVER, good)) === '200',
    );
  });
});
