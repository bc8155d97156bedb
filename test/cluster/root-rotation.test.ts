// The mesh's root is rotated under load at real node proxies: new connections all the time, and one that lives through
// it all. Nothing fails, and in the end the old root is trusted by nobody.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../common/clock.ts';
import { CertificateAuthority, createRoot } from '../../common/identity/ca.ts';
import type { RootMaterial } from '../../common/identity/ca.ts';
import { readCertificate, splitPem } from '../../common/identity/x509.ts';
import { badCertificates } from '../support/bad-certificates.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const SERVER = '10.77.0.3';
const OUTSIDE = 'spiffe://cluster.local/ns/default/sa/outside';
const next = createRoot('next', systemClock);

interface DumpedCertificates {
  readonly certificates: readonly {
    readonly state: string;
    readonly certChain: readonly { readonly pem: string }[];
    readonly rootCerts: readonly { readonly pem: string }[];
  }[];
}

const text = (base64: string): string => Buffer.from(base64, 'base64').toString();

/** What the operator's Secret and the kubelet's file do: the CA signs by it, and the proxies' file says so. */
async function step(signer: RootMaterial, roots: readonly RootMaterial[]): Promise<void> {
  const material = { ...signer, rootsPem: roots.map(({ certPem }) => certPem).join('') };
  mesh.replaceCa(material);
  const bundle = new CertificateAuthority(material, systemClock).rootsPem;
  mesh.writeFile('root-cert.pem', bundle);
  const { subject } = readCertificate(signer.certPem);
  await eventually('every proxy has certificates of that signer and those roots', async () => {
    for (const node of ['a', 'b']) {
      const { certificates } = (await mesh.configDump(node)) as unknown as DumpedCertificates;
      for (const { certChain, rootCerts } of certificates) {
        const trusted = rootCerts.map(({ pem }) => text(pem)).join('');
        if (splitPem(trusted).join('') !== splitPem(bundle).join('')) return false;
        if (readCertificate(text(certChain[0]?.pem ?? '')).issuer !== subject) return false;
      }
    }
    return true;
  });
}

before(async () => {
  mesh.proxyEnv['CA_ROOT_CA'] = mesh.writeFile('root-cert.pem', mesh.root.certPem);
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

after(() => mesh.close());

describe('rotation of the root', () => {
  it('under load: both roots, the new signer, the new root only; nothing fails', async () => {
    const old = mesh.root;
    const running = mesh.client('client', SERVER, 8080);
    let answers = '';
    running.stdout?.on('data', (chunk: Buffer) => (answers += chunk.toString()));
    const ask = async (word: string): Promise<void> => {
      running.stdin?.write(`${word}\n`);
      await eventually(`an answer to ${word}`, () => answers.includes(word));
    };
    const load = mesh.load('client', SERVER);
    await load.more(20);
    await ask('before');
    for (const [name, signer, roots] of [
      ['both', old, [old, next]],
      ['signer', next, [old, next]],
      ['only', next, [next]],
    ] as const) {
      await step(signer, roots);
      await load.more(40);
      await ask(name);
    }
    const { served, failures } = await load.end();
    assert.deepEqual(failures, []);
    assert.ok(served > 120, String(served));
    const closed = once(running, 'close');
    running.stdin?.end();
    await closed;
    assert.equal(running.exitCode, 0);
  });

  it('afterwards a certificate of the old root is worth nothing, one of the new root is', async () => {
    const stale = badCertificates(mesh.root, OUTSIDE).good;
    const fresh = badCertificates(next, OUTSIDE).good;
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, fresh), '200');
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, stale), 'ended');
  });
});
