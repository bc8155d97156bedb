// The only pod of a proxy in dedicated mode: the configuration names it, and this process runs in its
// network namespace. No agent, and no rights of another namespace, are needed.
import type { Logger } from '../../common/telemetry/logger.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { Netns } from '../../engine/reactor/netns.ts';
import { podNetns } from './pod-source.ts';
import type { PodNetns, PodSource } from './pod-source.ts';
import type { PodRegistry } from './zds-session.ts';

/** A source of one pod. */
export class DedicatedPod implements PodSource {
  readonly #pod: PodInfo;
  readonly #registry: PodRegistry<PodNetns>;
  readonly #logger: Logger;

  constructor(pod: PodInfo, registry: PodRegistry<PodNetns>, logger: Logger) {
    this.#pod = pod;
    this.#registry = registry;
    this.#logger = logger;
  }

  get isReady(): boolean {
    return this.#registry.isReady;
  }

  async run(): Promise<void> {
    const { namespace, name } = this.#pod;
    await this.#registry.serveOnly(`${namespace}/${name}`, this.#pod, podNetns(Netns.own()));
    this.#logger.info({ namespace, name }, 'serving the only pod');
  }

  close(): void {
    // Nothing runs.
  }
}
