// The node's certificates at the control thread: fetched from the CA, handed to the data thread, renewed early when
// the CA's root file changes (its new root reaches the workloads with their next certificate), and watched.
import { systemClock } from '../../common/clock.ts';
import { errorMessage, MeshError } from '../../common/errors.ts';
import { CaClient } from '../../common/grpc/ca-client.ts';
import { certificateFetcher } from '../../common/identity/ca-fetch.ts';
import { fakeCaSigner } from '../../common/identity/fake-ca.ts';
import { SecretManager } from '../../common/identity/secret-manager.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { Config } from '../config.ts';
import type { DataThread } from '../data-handle.ts';
import { certificateHealth } from './certificate-health.ts';
import type { CertificateCondition } from './certificate-health.ts';
import { watchRevocations } from './revocation-lists.ts';
import { watchFile } from './watch-file.ts';

/** All nodes see a new root at about the same time. */
const RENEW_WITHIN_MS = 10_000;
const WATCH_MS = 30_000;

/** The manager and what is told of it. */
export interface WorkloadSecrets {
  readonly secrets: SecretManager;
  /** Certificate requests that failed. */
  readonly failures: () => number;
  /** What is wrong with certificates and revocation lists, for people. */
  readonly problems: () => readonly string[];
  close(): void;
}

/** Starts the manager. */
export function startSecrets(config: Config, logger: Logger, data: DataThread): WorkloadSecrets {
  const ca = config.ca === undefined ? undefined : new CaClient(config.ca);
  let failures = 0;
  const secrets = new SecretManager({
    fetch: certificateFetcher({
      sign: signerOf(config, ca),
      ttlSec: config.secretTtlSec,
      isNodeProxy: config.dedicatedPod === undefined,
    }),
    clock: systemClock,
    logger,
    onFailure: () => failures++,
    onCertificate: (certificate) => {
      data.request({ kind: 'certificate', certificate }).catch((err: unknown) => {
        const { identity } = certificate;
        logger.error({ identity, err: errorMessage(err) }, 'certificate cannot be used');
      });
    },
  });
  const rootPath = config.ca?.root ?? '';
  const stopRootWatch = rootPath.startsWith('/')
    ? watchFile(rootPath, () => {
        logger.info({ path: rootPath }, 'root of the ca has changed, renewing certificates');
        ca?.close();
        secrets.renewAll(RENEW_WITHIN_MS);
      })
    : () => undefined;
  const revocations =
    config.crlPath === undefined
      ? undefined
      : watchRevocations(config.crlPath, logger, (lists) => {
          data
            .request({ kind: 'revocations', revocations: lists })
            .catch((err: unknown) =>
              logger.error({ err: errorMessage(err) }, 'lists not in force'),
            );
        });
  const stopHealthWatch = reportHealth(secrets, logger);
  return {
    secrets,
    failures: () => failures,
    problems: () => [
      ...certificateHealth(secrets.states(), Date.now()).flatMap(({ problem }) => problem ?? []),
      ...[revocations?.problem()].flatMap((problem) => problem ?? []),
    ],
    close: () => {
      stopRootWatch();
      stopHealthWatch();
      revocations?.close();
      secrets.close();
      ca?.close();
    },
  };
}

/** Logs every certificate whose condition has got worse. */
function reportHealth(secrets: SecretManager, logger: Logger): () => void {
  let known = new Map<string, CertificateCondition>();
  const timer = setInterval(() => {
    const now = new Map<string, CertificateCondition>();
    for (const { identity, condition, problem } of certificateHealth(
      secrets.states(),
      Date.now(),
    )) {
      now.set(identity, condition);
      if (problem === undefined || known.get(identity) === condition) continue;
      if (condition === 'late') logger.warn({ identity, condition }, problem);
      else logger.error({ identity, condition }, problem);
    }
    known = now;
  }, WATCH_MS);
  timer.unref();
  return () => clearInterval(timer);
}

function signerOf(
  config: Config,
  ca: CaClient | undefined,
): Parameters<typeof certificateFetcher>[0]['sign'] {
  if (config.fakeCaRoot !== undefined) return fakeCaSigner(config.fakeCaRoot);
  if (ca === undefined) throw new MeshError('invalid_config', 'no ca address');
  return (request) => ca.sign(request);
}

/** Answers the data thread's question for an identity's certificate. */
export function answerCertificate(
  data: DataThread,
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
