// Keeps the configmap istio-ca-root-cert in every namespace: the proxies' trust anchor for xDS and the CA, and their
// sign to renew when it changes. Watches the configmaps, so that one edited by hand is put right.
import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { Informer } from '../../common/kube/informer.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { KeyedQueue } from '../deploy/keyed-queue.ts';

const NAME = 'istio-ca-root-cert';
const KEY = 'root-cert.pem';

interface ConfigMapObject extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

interface NamespaceObject extends KubeObject {
  readonly status?: { readonly phase?: string };
}

/** Options of {@link RootDistributor}. */
export interface RootDistributorOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The trust bundle in force. */
  readonly rootsPem: () => string;
  readonly fieldManager: string;
  /** Namespaces by name. */
  readonly namespaces: () => ReadonlyMap<string, KubeObject>;
}

/** Writes the configmaps. */
export class RootDistributor {
  readonly #options: RootDistributorOptions;
  readonly #configMaps: Informer<ConfigMapObject>;
  readonly #queue: KeyedQueue;

  constructor(options: RootDistributorOptions) {
    this.#options = options;
    const { client, clock, logger } = options;
    this.#queue = new KeyedQueue({ clock, logger, work: (key) => this.#reconcile(key) });
    this.#configMaps = new Informer({
      client,
      clock,
      logger,
      kind: KINDS.configMaps,
      fieldSelector: `metadata.name=${NAME}`,
      onChange: ({ key }) => this.note(key.split('/')[0] ?? ''),
    });
  }

  /** Call for a new namespace. */
  note(namespace: string): void {
    this.#queue.add(namespace);
  }

  /** Call when the trust bundle has changed. */
  noteAll(): void {
    for (const name of this.#options.namespaces().keys()) this.note(name);
  }

  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#queue.close(), { once: true });
    await this.#configMaps.run(signal);
  }

  async #reconcile(namespace: string): Promise<void> {
    const { client, fieldManager, namespaces, logger } = this.#options;
    const rootPem = this.#options.rootsPem();
    const owner: NamespaceObject | undefined = namespaces().get(namespace);
    if (owner === undefined || owner.status?.phase === 'Terminating') return;
    if (this.#configMaps.objects.get(`${namespace}/${NAME}`)?.data?.[KEY] === rootPem) return;
    const configMap = {
      metadata: { name: NAME, namespace, labels: { 'istio.io/config': 'true' } },
      data: { [KEY]: rootPem },
    };
    try {
      await client.apply(KINDS.configMaps, configMap, fieldManager);
      logger.info({ namespace }, 'root certificate distributed');
    } catch (err) {
      // The namespace went away, or is about to.
      if (isKubeStatus(err, 404) || /terminat/.test(errorMessage(err))) return;
      throw err;
    }
  }
}
