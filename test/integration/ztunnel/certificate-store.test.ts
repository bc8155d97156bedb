// A data thread's certificates with real TLS contexts: built once for a certificate, not for each connection; replaced by
// a renewal; nobody is given what is not valid.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { WorkloadCertificate } from '../../../common/identity/secret-manager.ts';
import { CertificateStore } from '../../../ztunnel/identity/certificate-store.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { startReactor } from '../engine/support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
const identity = spiffe('a');
const material = authority.issue('a', identity);
const certificate = (serial: string, lifeMs = 60_000): WorkloadCertificate => ({
  ...material,
  ...{ identity, serial, notBeforeMs: Date.now(), notAfterMs: Date.now() + lifeMs },
});
after(() => {
  authority.remove();
  reactor.close();
});

describe('certificates of a data thread', () => {
  it('have their contexts built once, and again for a renewal only', () => {
    const store = new CertificateStore(reactor, () => undefined);
    assert.equal(store.put(certificate('1')), false);
    const first = store.current(identity);
    assert.ok(first);
    assert.equal(store.current(identity), first);
    assert.equal(store.put(certificate('1')), false, 'the same one, twice');
    assert.equal(store.current(identity), first);
    assert.equal(store.put(certificate('2')), true);
    assert.notEqual(store.current(identity)?.server, first.server);
  });

  it('are asked for once for all who wait', async () => {
    const asked: string[] = [];
    const store = new CertificateStore(reactor, (wanted) => asked.push(wanted));
    const waiting = [store.get(identity), store.get(identity)];
    store.put(certificate('1'));
    const [one, two] = await Promise.all(waiting);
    assert.equal(one, two);
    assert.deepEqual(asked, [identity]);
  });

  it('are given to nobody when they have expired, are forgotten, or could not be got', async () => {
    const store = new CertificateStore(reactor, () => undefined);
    store.put(certificate('1', -1));
    assert.equal(store.current(identity), undefined);
    store.put(certificate('2'));
    store.forget(identity);
    assert.equal(store.current(identity), undefined);
    const waiting = store.get(identity);
    store.fail(identity, 'the authority is away');
    await assert.rejects(waiting, /no certificate for .*: the authority is away/);
  });
});
