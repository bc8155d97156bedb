// Writes the virtual addresses of ServiceEntry hosts into the entries' status (common/compile/auto-addresses.ts decides).
// The status is the record: nothing is kept here. A write names the version it was computed from; what two control
// planes give twice, the next look at it takes back from the younger entry.
import type { Clock } from '../../common/clock.ts';
import { allocateAddresses } from '../../common/compile/auto-addresses.ts';
import type { AutoAddress } from '../../common/compile/auto-addresses.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { KeyedQueue } from '../deploy/keyed-queue.ts';
import type { ClusterWatch } from '../watch/cluster-watch.ts';

/** Options of {@link AddressAllocator}. */
export interface AddressAllocatorOptions {
  readonly client: Pick<KubeClient, 'mergePatch'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly watch: Pick<ClusterWatch, 'objects'>;
}

/** The allocator. */
export class AddressAllocator {
  readonly #options: AddressAllocatorOptions;
  readonly #queue: KeyedQueue;
  #wanted: ReadonlyMap<string, readonly AutoAddress[]> = new Map();

  constructor(options: AddressAllocatorOptions) {
    this.#options = options;
    const { clock, logger } = options;
    this.#queue = new KeyedQueue({ clock, logger, work: (key) => this.#write(key) });
  }

  /** Call when ServiceEntries have changed. */
  update(): void {
    const entries = this.#options.watch.objects('serviceEntries');
    const updates = allocateAddresses([...entries.values()]);
    this.#wanted = new Map(
      updates.map(({ namespace, name, addresses }) => [`${namespace}/${name}`, addresses]),
    );
    for (const key of this.#wanted.keys()) this.#queue.add(key);
  }

  close(): void {
    this.#queue.close();
  }

  async #write(key: string): Promise<void> {
    const { client, watch, logger } = this.#options;
    const addresses = this.#wanted.get(key);
    const {
      namespace = '',
      name = '',
      resourceVersion,
    } = watch.objects('serviceEntries').get(key)?.metadata ?? {};
    if (addresses === undefined || name === '') return;
    const patch = { metadata: { resourceVersion }, status: { addresses } };
    try {
      await client.mergePatch({ kind: KINDS.serviceEntries, namespace, name }, patch, 'status');
      logger.info({ entry: key, addresses: addresses.length }, 'virtual addresses allocated');
    } catch (err) {
      // Gone, or changed meanwhile: the watch brings the news, and with it the next update.
      if (!isKubeStatus(err, 404) && !isKubeStatus(err, 409)) throw err;
    }
  }
}
