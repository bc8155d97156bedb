// The control plane's own server certificate, from its own CA, kept in memory and renewed at half of its life.
import type { Clock, Timer } from '../../common/clock.ts';
import type { ServerTls } from '../../common/grpc/server.ts';
import type { CertificateAuthority } from '../../common/identity/ca.ts';

const LIFE_SEC = 30 * 86_400;
/** Below the longest delay a timer can have. */
const RENEW_AFTER_MS = 15 * 86_400_000;

/** DNS names under which proxies and tools reach the control plane. */
export function serverNames(namespace: string, domain: string): string[] {
  const service = `istiod.${namespace}`;
  return [`${service}.svc`, `${service}.svc.${domain}`, service, 'istiod', 'localhost'];
}

/** The certificate that is kept. */
export interface KeptCertificate {
  readonly tls: ServerTls;
  /** Issues another now: the authority has changed. */
  renew(): void;
  close(): void;
}

/** Issues the certificate by the authority in force and renews it. */
export function keepServerCertificate(
  authority: () => CertificateAuthority,
  dnsNames: readonly string[],
  clock: Clock,
  onRenewed: (tls: ServerTls) => void,
): KeptCertificate {
  const issue = (): ServerTls => {
    const { certPem, privateKeyPem } = authority().issueServer(dnsNames, LIFE_SEC);
    return { certChainPem: certPem + authority().rootsPem, privateKeyPem };
  };
  let timer: Timer;
  const schedule = (): void => {
    timer = clock.after(RENEW_AFTER_MS, () => {
      onRenewed(issue());
      schedule();
    });
  };
  const tls = issue();
  schedule();
  return { tls, renew: () => onRenewed(issue()), close: () => timer.cancel() };
}
