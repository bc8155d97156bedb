// The kubelet's way to the Kubernetes API: requests by path, and watches. It may connect to another address than the
// kubeconfig's (the relay on the bridge) while the original name is verified.
import { systemClock } from '../../common/clock.ts';
import { KubeClient } from '../../common/kube/client.ts';
import { loadConnection, type ConnectAddress } from '../../common/kube/connection.ts';
import { Informer, type ObjectChange } from '../../common/kube/informer.ts';
import type { ResourceKind } from '../../common/kube/resource.ts';
import { log } from './log.ts';
import type { KubeObject } from './objects.ts';

const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;

/** What to watch. */
export interface WatchTarget<T> {
  readonly kind: ResourceKind;
  readonly fieldSelector?: string;
  onChange(change: ObjectChange<T>): void;
}

export class ApiClient {
  readonly #client: KubeClient;

  private constructor(client: KubeClient) {
    this.#client = client;
  }

  /** Opens the current context of a kubeconfig; `connect` is dialled instead of the server's own address. */
  static async open(kubeconfig: string, connect?: ConnectAddress): Promise<ApiClient> {
    const connection = await loadConnection({ kubeconfig });
    const reached = connect === undefined ? connection : { ...connection, connect };
    return new ApiClient(new KubeClient(reached, 'ambient-kubelet'));
  }

  get<T>(path: string): Promise<T> {
    return this.#client.json<T>({ path });
  }

  create<T>(path: string, body: object): Promise<T> {
    return this.#client.json<T>({ method: 'POST', path, body });
  }

  patch<T>(path: string, body: object, type: 'merge' | 'strategic' = 'merge'): Promise<T> {
    return this.#client.json<T>({
      method: 'PATCH',
      path,
      body,
      contentType: PATCH_TYPES[type],
    });
  }

  async delete(path: string, options: object): Promise<void> {
    await this.#client.json({ method: 'DELETE', path, body: options });
  }

  /** Lists and watches until the signal aborts; reconnects by itself. */
  watch<T extends KubeObject>(target: WatchTarget<T>, signal: AbortSignal): Promise<void> {
    const common = { client: this.#client, clock: systemClock, logger: log };
    return new Informer<T>({ ...common, ...target }).run(signal);
  }

  close(): void {
    this.#client.close();
  }
}
