import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatProgress } from '../../../cli/commands/rotation.ts';
import { rootProgress } from '../../../cli/root-progress.ts';
import type { AskedProxy, DumpedSecret } from '../../../cli/root-progress.ts';
import { systemClock } from '../../../common/clock.ts';
import { CertificateAuthority, createRoot } from '../../../common/identity/ca.ts';
import type { RootMaterial } from '../../../common/identity/ca.ts';
import { buildCsr, generateKeyPair, parseCsr } from '../../../common/identity/csr.ts';

const [a, b] = [createRoot('cluster.local', systemClock), createRoot('cluster.local', systemClock)];
const bundle = (...roots: readonly RootMaterial[]): string =>
  roots.map(({ certPem }) => certPem).join('');
const IDS = rootProgress(bundle(a, b), []).roots.map(({ id }) => id);
const [A = '', B = ''] = IDS;

/** A certificate under `signer` that came with `roots`. */
function secret(signer: RootMaterial, ...roots: readonly RootMaterial[]): DumpedSecret {
  const ca = new CertificateAuthority({ ...signer, rootsPem: bundle(...roots) }, systemClock);
  const identity = 'spiffe://cluster.local/ns/demo/sa/web';
  const { publicKeyDer } = parseCsr(buildCsr(identity, generateKeyPair()));
  // The roots come last in what the CA answers, and are not part of the chain.
  const chain = ca.issueWorkload(publicKeyDer, identity, 600).slice(0, 1);
  const encoded = (pems: readonly string[]): { pem: string }[] =>
    pems.map((pem) => ({ pem: Buffer.from(pem).toString('base64') }));
  return {
    ...{ identity, state: 'Available', certChain: encoded(chain) },
    rootCerts: encoded(roots.map(({ certPem }) => certPem)),
  };
}

const proxy = (certificates: AskedProxy['certificates']): AskedProxy => ({
  ...{ name: 'ztunnel-1', namespace: 'istio-system', node: 'one', certificates },
});

describe('how far a rotation has come', () => {
  const cases: readonly {
    readonly name: string;
    readonly published: string;
    readonly held: AskedProxy['certificates'];
    readonly missing: readonly string[];
  }[] = [
    { name: 'before it', published: bundle(a), held: [secret(a, a)], missing: [] },
    {
      name: 'step 1 has not arrived',
      published: bundle(a, b),
      held: [secret(a, a), secret(a, a, b)],
      missing: [`1 without trust in ${B}`],
    },
    { name: 'step 1', published: bundle(a, b), held: [secret(a, a, b)], missing: [] },
    {
      name: 'step 2 has not arrived',
      published: bundle(b, a),
      held: [secret(a, a, b)],
      missing: [`1 under ${A}, not ${B}`],
    },
    { name: 'step 2', published: bundle(b, a), held: [secret(b, a, b)], missing: [] },
    {
      name: 'step 3 has not arrived',
      published: bundle(b),
      held: [secret(b, a, b)],
      missing: [`1 still with trust in ${A}`],
    },
    { name: 'step 3', published: bundle(b), held: [secret(b, b)], missing: [] },
    {
      name: 'no certificate',
      published: bundle(a),
      held: [{ identity: 'x', state: 'Initializing', certChain: [], rootCerts: [] }],
      missing: ['1 no certificate (Initializing)'],
    },
    {
      name: 'a proxy that does not answer',
      published: bundle(a),
      held: { error: 'gone' },
      missing: ['cannot be asked: gone'],
    },
  ];
  for (const { name, published, held, missing } of cases) {
    it(name, () => {
      const { proxies, isComplete } = rootProgress(published, [proxy(held)]);
      assert.deepEqual(
        proxies.map((each) => each.missing),
        [missing],
      );
      assert.equal(isComplete, missing.length === 0);
    });
  }

  it('a certificate under a root that nobody knows', () => {
    const [one] = rootProgress(bundle(a), [
      proxy([{ ...secret(b, b), rootCerts: secret(a, a).rootCerts ?? [] }]),
    ]).proxies;
    assert.deepEqual(one?.signedBy, { '?': 1 });
    assert.deepEqual(one.missing, [`1 under ?, not ${A}`]);
  });

  it('a root that only some certificates of a proxy trust is marked', () => {
    const [one] = rootProgress(bundle(a, b), [proxy([secret(a, a), secret(a, a, b)])]).proxies;
    assert.deepEqual([one?.trusts, one?.current, one?.certificates], [[A, `+${B}`], 1, 2]);
  });

  it('no bundle is not complete', () => {
    assert.equal(rootProgress('', []).isComplete, false);
  });

  it('as tables', () => {
    const text = formatProgress(rootProgress(bundle(b, a), [proxy([secret(a, a, b)])]));
    assert.match(text, new RegExp(`${B} +signs +`));
    assert.match(text, new RegExp(`${A} +is trusted +`));
    assert.match(text, new RegExp(`ztunnel-1 .* 0/1 +${A} \\(1\\) +.*1 under ${A}, not ${B}`));
    assert.match(text, /not every proxy has followed/);
  });
});
