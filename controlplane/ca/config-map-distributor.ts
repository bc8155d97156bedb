// Keeps a configmap in every namespace: istio-ca-root-cert, the proxies' trust anchor for xDS and the CA and their sign to
// renew when it changes, and istio-ca-crl, the revocation lists. Watches them, so that one edited by hand is put right.
import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { Informer } from '../../common/kube/informer.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { KeyedQueue } from '../deploy/keyed-queue.ts';

/** What is distributed, under Istio's names. */
export interface Distributed {
  readonly name: string;
  readonly key: string;
}

/** The trust bundle. */
export const ROOTS: Distributed = { name: 'istio-ca-root-cert', key: 'root-cert.pem' };
/** Revocation lists in PEM. */
export const REVOCATIONS: Distributed = { name: 'istio-ca-crl', key: 'ca-crl.pem' };

interface ConfigMapObject extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

interface NamespaceObject extends KubeObject {
  readonly status?: { readonly phase?: string };
}

/** Options of {@link ConfigMapDistributor}. */
export interface ConfigMapDistributorOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly what: Distributed;
  /** The text in force. Without one nothing is made, and what is there is emptied. */
  readonly text: () => string;
  readonly fieldManager: string;
  /** Namespaces by name. */
  readonly namespaces: () => ReadonlyMap<string, KubeObject>;
}

/** Writes the configmaps. */
export class ConfigMapDistributor {
  readonly #options: ConfigMapDistributorOptions;
  readonly #configMaps: Informer<ConfigMapObject>;
  readonly #queue: KeyedQueue;

  constructor(options: ConfigMapDistributorOptions) {
    this.#options = options;
    const { client, clock, logger, what } = options;
    this.#queue = new KeyedQueue({ clock, logger, work: (key) => this.#reconcile(key) });
    this.#configMaps = new Informer({
      client,
      clock,
      logger,
      kind: KINDS.configMaps,
      fieldSelector: `metadata.name=${what.name}`,
      onChange: ({ key }) => this.note(key.split('/')[0] ?? ''),
    });
  }

  /** Call for a new namespace. */
  note(namespace: string): void {
    this.#queue.add(namespace);
  }

  /** Call when the text has changed. */
  noteAll(): void {
    for (const name of this.#options.namespaces().keys()) this.note(name);
  }

  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#queue.close(), { once: true });
    await this.#configMaps.run(signal);
  }

  async #reconcile(namespace: string): Promise<void> {
    const { client, fieldManager, namespaces, logger } = this.#options;
    const { name, key } = this.#options.what;
    const text = this.#options.text();
    const owner: NamespaceObject | undefined = namespaces().get(namespace);
    if (owner === undefined || owner.status?.phase === 'Terminating') return;
    const found = this.#configMaps.objects.get(`${namespace}/${name}`);
    if (found?.data?.[key] === text || (found === undefined && text === '')) return;
    const configMap = {
      metadata: { name, namespace, labels: { 'istio.io/config': 'true' } },
      data: { [key]: text },
    };
    try {
      await client.apply(KINDS.configMaps, configMap, fieldManager);
      logger.info({ namespace, configMap: name }, 'configmap written');
    } catch (err) {
      // The namespace went away, or is about to.
      if (isKubeStatus(err, 404) || /terminat/.test(errorMessage(err))) return;
      throw err;
    }
  }
}
