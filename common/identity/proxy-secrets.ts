// A proxy's certificates and revocation lists at its control thread: fetched from the CA, handed to the data plane,
// renewed early when the CA's root file changes (its new roots come with the next certificate), and watched.
import type { Clock } from '../clock.ts';
import { errorMessage, MeshError } from '../errors.ts';
import { CaClient } from '../grpc/ca-client.ts';
import type { ControlPlaneAddress } from '../grpc/channel.ts';
import type { Logger } from '../telemetry/logger.ts';
import { certificateFetcher } from './ca-fetch.ts';
import type { SignRequest } from './ca-fetch.ts';
import { certificateHealth } from './certificate-health.ts';
import type { CertificateCondition, CertificateHealth } from './certificate-health.ts';
import { fakeCaSigner } from './fake-ca.ts';
import { watchRevocations } from '../hbone/revocation-lists.ts';
import type { Revocations } from '../hbone/revocation-lists.ts';
import { SecretManager } from './secret-manager.ts';
import type { WorkloadCertificate } from './secret-manager.ts';
import { watchFile } from './watch-file.ts';

/** All proxies see a new root at about the same time: so much time for each certificate, and so much at most. */
const RENEW_EACH_MS = 200;
const RENEW_WITHIN_MS = 10_000;
const WATCH_MS = 30_000;

/** Where certificates and lists come from. */
export interface SecretSettings {
  readonly ca: ControlPlaneAddress | undefined;
  /** Signs in the process instead: tests only. */
  readonly fakeCaRoot: string | undefined;
  readonly secretTtlSec: number;
  /** File with revocation lists; undefined: not checked. */
  readonly crlPath: string | undefined;
}

/** Options of {@link startSecrets}. */
export interface SecretOptions {
  readonly settings: SecretSettings;
  /** True for one that asks on behalf of workloads. */
  readonly isNodeProxy: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Gives the data plane a new certificate; rejects when it cannot be used. */
  readonly use: (certificate: WorkloadCertificate) => Promise<unknown>;
  /** Gives the data plane the lists in force. */
  readonly useRevocations: (revocations: Revocations) => Promise<unknown>;
}

/** The manager and what is told of it. */
export interface ProxySecrets {
  readonly secrets: SecretManager;
  /** Certificate requests that failed. */
  readonly failures: () => number;
  readonly health: () => CertificateHealth[];
  /** What is wrong with certificates and revocation lists, for people. */
  readonly problems: () => readonly string[];
  close(): void;
}

/** Starts the manager and the watches. */
export function startSecrets(options: SecretOptions): ProxySecrets {
  const { settings, isNodeProxy, clock, logger } = options;
  const ca = settings.ca === undefined ? undefined : new CaClient(settings.ca);
  let failures = 0;
  const secrets = new SecretManager({
    fetch: certificateFetcher({
      sign: signerOf(settings, ca),
      ttlSec: settings.secretTtlSec,
      isNodeProxy,
    }),
    clock,
    logger,
    onFailure: () => failures++,
    onCertificate: (certificate) => {
      options.use(certificate).catch((err: unknown) => {
        const { identity } = certificate;
        logger.error({ identity, err: errorMessage(err) }, 'certificate cannot be used');
      });
    },
  });
  const health = (): CertificateHealth[] => certificateHealth(secrets.states(), clock.now());
  const stopRootWatch = watchRoot(settings, logger, () => {
    ca?.followRoot();
    secrets.renewAll(Math.min(RENEW_WITHIN_MS, secrets.states().length * RENEW_EACH_MS));
  });
  const revocations = watchLists(options);
  const stopHealthWatch = reportHealth(health, logger);
  return {
    secrets,
    failures: () => failures,
    health,
    problems: () => [
      ...health().flatMap(({ problem }) => problem ?? []),
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

function watchRoot({ ca }: SecretSettings, logger: Logger, onChange: () => void): () => void {
  const path = ca?.root ?? '';
  if (!path.startsWith('/')) return () => undefined;
  return watchFile(path, () => {
    logger.info({ path }, 'root of the ca has changed, renewing certificates');
    onChange();
  });
}

function watchLists(options: SecretOptions): ReturnType<typeof watchRevocations> | undefined {
  const { logger, settings, useRevocations } = options;
  if (settings.crlPath === undefined) return undefined;
  return watchRevocations(settings.crlPath, logger, (lists) => {
    useRevocations(lists).catch((err: unknown) =>
      logger.error({ err: errorMessage(err) }, 'lists not in force'),
    );
  });
}

/** Logs every certificate whose condition has got worse. */
function reportHealth(health: () => CertificateHealth[], logger: Logger): () => void {
  let known = new Map<string, CertificateCondition>();
  const timer = setInterval(() => {
    const now = new Map<string, CertificateCondition>();
    for (const { identity, condition, problem } of health()) {
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

function signerOf({ fakeCaRoot }: SecretSettings, ca: CaClient | undefined): SignRequest {
  if (fakeCaRoot !== undefined) return fakeCaSigner(fakeCaRoot);
  if (ca === undefined) throw new MeshError('invalid_config', 'no ca address');
  return (request) => ca.sign(request);
}
