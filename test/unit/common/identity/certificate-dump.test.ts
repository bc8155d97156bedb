// Certificates in config_dump as istioctl reads them: the fields of a certificate that is there.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
import { systemClock } from '../../../../common/clock.ts';
import { createRoot } from '../../../../common/identity/ca.ts';
import { dumpSecret } from '../../../../common/identity/certificate-dump.ts';

const [leaf, root, second] = ['leaf', 'root', 'second'].map(
  (name) => createRoot(name, systemClock).certPem,
);

describe('a certificate in the dump', () => {
  it('is Available, with its chain and every root: base64 of the PEM, decimal serial, times to the second', () => {
    assert.ok(leaf !== undefined && root !== undefined && second !== undefined);
    const certificate = {
      ...{ identity: 'a', certChainPem: leaf, rootsPem: `${root}${second}`, privateKeyPem: 'KEY' },
      ...{ notBeforeMs: 0, notAfterMs: 0, serial: '' },
    };
    const found = dumpSecret({ identity: 'a', certificate, error: undefined });
    const shown = (pem: string): object => {
      const { serialNumber, validFrom, validTo } = new X509Certificate(pem);
      const time = (text: string): string => new Date(text).toISOString().replace('.000Z', 'Z');
      return {
        pem: Buffer.from(pem).toString('base64'),
        serialNumber: BigInt(`0x${serialNumber}`).toString(10),
        validFrom: time(validFrom),
        expirationTime: time(validTo),
      };
    };
    assert.deepEqual(found, {
      ...{ identity: 'a', state: 'Available' },
      certChain: [shown(leaf)],
      rootCerts: [shown(root), shown(second)],
    });
    assert.doesNotMatch(JSON.stringify(found), /KEY/);
  });

  it('that is not there says why, and shows nothing else', () => {
    const state = (error: string | undefined): object =>
      dumpSecret({ identity: 'a', certificate: undefined, error });
    const nothing = { identity: 'a', certChain: [], rootCerts: [] };
    assert.deepEqual(state('refused'), { ...nothing, state: 'Unavailable: refused' });
    assert.deepEqual(state(undefined), { ...nothing, state: 'Initializing' });
  });
});
