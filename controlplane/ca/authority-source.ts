// What the CA signs with, from Secrets under Istio's names and keys: `cacerts`, which an operator plugs in and whose
// changes count at once (how a root is rotated: docs/operations/root-rotation.md), or else the self-signed root of
// `istio-ca-secret`. A Secret that is not usable, or is removed, leaves what is in force.
import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { CertificateAuthority } from '../../common/identity/ca.ts';
import type { CaMaterial } from '../../common/identity/ca.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { Informer } from '../../common/kube/informer.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { loadRoot, pluggedMaterial, pluggedRevocations, PLUGGED_SECRET } from './root-store.ts';
import type { SecretObject } from './root-store.ts';

/** Options of {@link AuthoritySource}. */
export interface AuthoritySourceOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly namespace: string;
  readonly trustDomain: string;
  /** Another signer or another trust bundle is in force. */
  readonly onChange: () => void;
  /** Other revocation lists are in force. */
  readonly onRevocations: () => void;
}

/** Holds the authority in force. */
export class AuthoritySource {
  readonly #options: AuthoritySourceOptions;
  #authority: CertificateAuthority;
  #material: string;
  /** Revocation lists of the operator, in PEM; empty without. Proxies check whether they can be read. */
  revocationsPem: string;

  private constructor(options: AuthoritySourceOptions, material: CaMaterial, revocations: string) {
    this.revocationsPem = revocations;
    this.#options = options;
    this.#authority = new CertificateAuthority(material, options.clock);
    this.#material = JSON.stringify(material);
  }

  /** Reads the Secrets once; creates the self-signed root where there is none. Rejects when what is there is bad. */
  static async open(options: AuthoritySourceOptions): Promise<AuthoritySource> {
    const { client, namespace, trustDomain, clock } = options;
    const ref = { kind: KINDS.secrets, namespace, name: PLUGGED_SECRET };
    const plugged = await client.get<SecretObject>(ref);
    const material =
      plugged === undefined
        ? await loadRoot(client, namespace, trustDomain, clock)
        : pluggedMaterial(plugged);
    const revocations = plugged === undefined ? '' : pluggedRevocations(plugged);
    return new AuthoritySource(options, material, revocations);
  }

  get current(): CertificateAuthority {
    return this.#authority;
  }

  /** Follows `cacerts` until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, clock, logger, namespace } = this.#options;
    const informer = new Informer<SecretObject & KubeObject>({
      client,
      clock,
      logger,
      namespace,
      kind: KINDS.secrets,
      fieldSelector: `metadata.name=${PLUGGED_SECRET}`,
      onChange: ({ current }) => this.#apply(current),
    });
    await informer.run(signal);
  }

  #apply(secret: SecretObject | undefined): void {
    const { logger, clock, onChange } = this.#options;
    if (secret === undefined) {
      logger.warn({ secret: PLUGGED_SECRET }, 'secret is gone, its ca stays in force');
      return;
    }
    const revocations = pluggedRevocations(secret);
    if (revocations !== this.revocationsPem) {
      this.revocationsPem = revocations;
      logger.info({ bytes: revocations.length }, 'revocation lists have changed');
      this.#options.onRevocations();
    }
    try {
      const material = pluggedMaterial(secret);
      const text = JSON.stringify(material);
      if (text === this.#material) return;
      this.#authority = new CertificateAuthority(material, clock);
      this.#material = text;
    } catch (err) {
      const fields = { secret: PLUGGED_SECRET, err: errorMessage(err) };
      logger.error(fields, 'secret is not usable, the ca before stays in force');
      return;
    }
    logger.info({ roots: this.#authority.rootsPem.split('BEGIN').length - 1 }, 'ca has changed');
    onChange();
  }
}
