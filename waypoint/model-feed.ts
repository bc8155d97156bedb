// Feeds the data thread: addresses and L7 resources from local files and from xDS. Resources are checked here, so
// that a bad one is refused with its field named while the last good one stays in use.
import { decodeAddress, ADDRESS_TYPE_URL } from '../common/workload/decode.ts';
import type { AddressResource } from '../common/workload/model.ts';
import type { LocalState } from '../common/workload/local-file.ts';
import type { LocalL7Resource } from '../common/l7/local-file.ts';
import { subscribeWith } from '../common/xds/delta-client.ts';
import type { DeltaSubscription } from '../common/xds/delta-client.ts';
import type { DataThread } from './data-handle.ts';
import { decodeL7Resource, L7_KINDS, l7TypeUrl } from './state/l7-config.ts';
import type { L7Kind } from './state/l7-config.ts';

/** Sends everything a waypoint is told to its data thread. */
export class ModelFeed {
  readonly #data: DataThread;

  constructor(data: DataThread) {
    this.#data = data;
  }

  /** Addresses and the four L7 types; each ACK waits until the data thread has applied the push. */
  subscriptions(): DeltaSubscription[] {
    return [
      subscribeWith(ADDRESS_TYPE_URL, decodeAddress, async ({ upserts, removed }) => {
        await this.#data.request({
          kind: 'addresses',
          upserts: upserts.map(({ resource }) => resource),
          removed,
        });
      }),
      ...L7_KINDS.map((type) => this.#l7Subscription(type)),
    ];
  }

  #l7Subscription(type: L7Kind): DeltaSubscription {
    return subscribeWith(
      l7TypeUrl(type),
      (value, name) => {
        decodeL7Resource(type, name, value);
        return value;
      },
      async ({ upserts, removed }) => {
        await this.#data.request({
          kind: 'l7',
          type,
          upserts: upserts.map(({ name, resource }) => ({ name, value: resource })),
          removed,
        });
      },
    );
  }

  /** Loads files; they stay beside what xDS sends. */
  async applyLocal(
    addresses: LocalState | undefined,
    l7: readonly LocalL7Resource[],
  ): Promise<void> {
    const upserts: AddressResource[] = [
      ...(addresses?.services ?? []).map((service) => ({ kind: 'service' as const, service })),
      ...(addresses?.workloads ?? []).map((workload) => ({ kind: 'workload' as const, workload })),
    ];
    await this.#data.request({ kind: 'addresses', upserts, removed: [] });
    for (const { kind, name, value } of l7) {
      decodeL7Resource(kind, name, value);
      await this.#data.request({ kind: 'l7', type: kind, upserts: [{ name, value }], removed: [] });
    }
  }
}
