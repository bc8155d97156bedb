// The node's certificates: common/identity/proxy-secrets.ts with this proxy's data thread behind it.
import { systemClock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { startSecrets } from '../../common/identity/proxy-secrets.ts';
import type { ProxySecrets } from '../../common/identity/proxy-secrets.ts';
import type { SecretManager } from '../../common/identity/secret-manager.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { Config } from '../config.ts';
import type { DataThreads } from '../data-threads.ts';

/** Starts the manager. */
export function startWorkloadSecrets(
  config: Config,
  logger: Logger,
  data: DataThreads,
): ProxySecrets {
  return startSecrets({
    settings: config,
    isNodeProxy: config.dedicatedPod === undefined,
    clock: systemClock,
    logger,
    use: (certificate) => data.request({ kind: 'certificate', certificate }),
    useRevocations: (revocations) => data.request({ kind: 'revocations', revocations }),
  });
}

/** Answers the data thread's question for an identity's certificate. */
export function answerCertificate(
  data: DataThreads,
  secrets: SecretManager,
  identity: string,
): void {
  secrets
    .get(identity)
    .then(
      // A new one has been sent by onCertificate; one that was cached must be sent again.
      (certificate) => data.request({ kind: 'certificate', certificate }),
      (err: unknown) =>
        data.request({ kind: 'certificateFailed', identity, error: errorMessage(err) }),
    )
    .catch(() => undefined); // the data thread has ended; onError has told
}
