// Leaving without a failed request: when the agent has marked a pod as leaving, its workload is published without
// HBONE; this waits until every connected proxy has confirmed that, then tells the agent by an annotation. See
// docs/design/configuration.md. A proxy that does not answer delays it by five seconds at most.
import { sleep } from '../../common/clock.ts';
import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { DeltaServer } from '../../common/xds/delta-server.ts';
import { ADDRESS_TYPE } from './snapshots.ts';

const REDIRECTION = 'ambient.istio.io/redirection';
const LEAVING = 'ambient-mesh.io/leaving';
const WITHDRAWN = 'ambient-mesh.io/withdrawn';
const MAX_WAIT_MS = 5000;
/** After a start the proxies have to reconnect before their silence means anything. */
const SETTLE_MS = 3000;

/** Options of {@link Withdrawal}. */
export interface WithdrawalOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly server: DeltaServer;
  /** Stops waiting. */
  readonly signal: AbortSignal;
}

/** Follows pods that leave. */
export class Withdrawal {
  readonly #options: WithdrawalOptions;
  /** Pod key to the value of its leaving annotation that is being waited for. */
  readonly #waiting = new Map<string, string>();

  readonly #settledAtMs: number;

  constructor(options: WithdrawalOptions) {
    this.#options = options;
    this.#settledAtMs = options.clock.now() + SETTLE_MS;
  }

  /** Call after a publish, with the pods it was made of and the generation of the addresses. */
  check(pods: ReadonlyMap<string, KubeObject>, generation: number): void {
    for (const [key, pod] of pods) {
      const annotations = pod.metadata?.annotations;
      const leaving = annotations?.[LEAVING];
      if (leaving === undefined || annotations?.[REDIRECTION] === 'enabled') continue;
      if (annotations?.[WITHDRAWN] === leaving || this.#waiting.get(key) === leaving) continue;
      this.#waiting.set(key, leaving);
      void this.#confirm(key, pod, leaving, generation);
    }
  }

  async #confirm(key: string, pod: KubeObject, leaving: string, generation: number): Promise<void> {
    const { client, clock, logger, server, signal } = this.#options;
    const { name = '', namespace = '' } = pod.metadata ?? {};
    try {
      await sleep(clock, Math.max(0, this.#settledAtMs - clock.now()), signal);
      const limit = AbortSignal.any([signal, AbortSignal.timeout(MAX_WAIT_MS)]);
      const isAcked = await server.whenAcked(ADDRESS_TYPE, generation, limit);
      if (signal.aborted) return;
      const patch = { metadata: { annotations: { [WITHDRAWN]: leaving } } };
      await client.mergePatch({ kind: KINDS.pods, namespace, name }, patch);
      logger.info({ pod: key, isAcked }, 'workload withdrawn from hbone');
    } catch (err) {
      if (signal.aborted || isKubeStatus(err, 404)) return;
      // The agent goes on by itself after ten seconds.
      logger.warn({ pod: key, err: errorMessage(err) }, 'withdrawal not written');
    } finally {
      if (this.#waiting.get(key) === leaving) this.#waiting.delete(key);
    }
  }
}
