// When a certificate counts as a problem, and what is said of it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SecretState } from '../../../../common/identity/secret-manager.ts';
import { certificateHealth } from '../../../../common/identity/certificate-health.ts';

const ID = 'spiffe://cluster.local/ns/default/sa/a';
const LIFE_MS = 100_000;

function stateOf(error?: string): SecretState {
  const certificate = {
    identity: ID,
    certChainPem: '',
    privateKeyPem: '',
    rootsPem: '',
    serial: '01',
    notBeforeMs: 0,
    notAfterMs: LIFE_MS,
  };
  return { identity: ID, certificate, error };
}

describe('certificate health', () => {
  const rows = [
    [0, undefined, 'ok', undefined],
    [50_000, 'ca is down', 'ok', undefined],
    [60_000, 'ca is down', 'late', `certificate of ${ID} expires in 40 s: ca is down`],
    [80_000, undefined, 'expiring', `certificate of ${ID} expires in 20 s: it was not renewed`],
    [103_000, 'ca is down', 'expired', `certificate of ${ID} expired 3 s ago: ca is down`],
  ] as const;
  for (const [nowMs, error, condition, problem] of rows) {
    it(`${nowMs / 1000} s of 100 s are over: ${condition}`, () => {
      assert.deepEqual(certificateHealth([stateOf(error)], nowMs), [
        { identity: ID, condition, secondsLeft: (LIFE_MS - nowMs) / 1000, problem },
      ]);
    });
  }

  it('one that could not be got is missing, one that is on its way is not', () => {
    const missing = { identity: ID, certificate: undefined, error: 'ca is down' };
    assert.deepEqual(certificateHealth([missing, { ...missing, error: undefined }], 0), [
      {
        identity: ID,
        condition: 'missing',
        secondsLeft: undefined,
        problem: `no certificate for ${ID}: ca is down`,
      },
    ]);
  });
});
