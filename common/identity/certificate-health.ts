// What is wrong with a proxy's certificates, long before a connection fails for it: renewal begins at half life, so
// a certificate that is older has missed it. Pure.
import type { SecretState } from './secret-manager.ts';

/** Worst last. A renewal is `late` from 60 % of the life on, `expiring` from 80 %. */
export type CertificateCondition = 'ok' | 'late' | 'expiring' | 'missing' | 'expired';

/** One identity's. */
export interface CertificateHealth {
  readonly identity: string;
  readonly condition: CertificateCondition;
  /** Until the end of its life; negative after it, undefined without a certificate. */
  readonly secondsLeft: number | undefined;
  /** For people; undefined when it is well. */
  readonly problem: string | undefined;
}

const LATE_PART = 0.6;
const EXPIRING_PART = 0.8;

/** Looks at all of them; one that is being fetched for the first time is left out. */
export function certificateHealth(
  states: readonly SecretState[],
  nowMs: number,
): CertificateHealth[] {
  return states.flatMap(({ identity, certificate, error }): CertificateHealth[] => {
    if (certificate === undefined) {
      if (error === undefined) return [];
      const problem = `no certificate for ${identity}: ${error}`;
      return [{ identity, condition: 'missing', secondsLeft: undefined, problem }];
    }
    const { notBeforeMs, notAfterMs } = certificate;
    const secondsLeft = Math.round((notAfterMs - nowMs) / 1000);
    const condition = certificateCondition({ notBeforeMs, notAfterMs }, nowMs);
    const when = secondsLeft > 0 ? `expires in ${secondsLeft} s` : `expired ${-secondsLeft} s ago`;
    const why = error ?? 'it was not renewed';
    const problem = condition === 'ok' ? undefined : `certificate of ${identity} ${when}: ${why}`;
    return [{ identity, condition, secondsLeft, problem }];
  });
}

/** How far a certificate is in its life. */
export function certificateCondition(
  { notBeforeMs, notAfterMs }: { readonly notBeforeMs: number; readonly notAfterMs: number },
  nowMs: number,
): CertificateCondition {
  const usedPart = (nowMs - notBeforeMs) / (notAfterMs - notBeforeMs);
  if (usedPart >= 1) return 'expired';
  if (usedPart >= EXPIRING_PART) return 'expiring';
  return usedPart >= LATE_PART ? 'late' : 'ok';
}
