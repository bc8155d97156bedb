// A pod's network: its netns by the built-in step, then the node's CNI chain. Host-network pods have neither.
import { errorMessage } from '../../common/errors.ts';
import { addToChain, removeFromChain, type PodSandbox } from './cni-chain.ts';
import { log } from './log.ts';
import type { NodeContext } from './node-context.ts';
import type { Pod } from './objects.ts';
import {
  addPodNetwork,
  podAddresses,
  podNetns,
  removePodNetwork,
  type CniResult,
} from './pod-network.ts';

export class PodSandboxNetwork {
  readonly #context: NodeContext;
  readonly #netns: string | undefined;
  #pod: Pod;
  #address: string | undefined;
  #addresses: readonly string[] = [];
  #result: CniResult | undefined;
  #isUp = false;

  constructor(context: NodeContext, pod: Pod) {
    this.#context = context;
    this.#pod = pod;
    this.#netns =
      pod.spec.hostNetwork === true
        ? undefined
        : podNetns(context.config, pod.metadata.namespace ?? 'default', pod.metadata.name);
  }

  update(pod: Pod): void {
    this.#pod = pod;
  }

  /** Undefined for a pod in the node's netns. */
  get netns(): string | undefined {
    return this.#netns;
  }

  get podIp(): string | undefined {
    return this.podIps[0];
  }

  /** All addresses of the pod, the first one first. */
  get podIps(): readonly string[] {
    if (!this.#isUp) return [];
    if (this.#netns !== undefined) return this.#addresses;
    const { address, ipv6 } = this.#context.config;
    return ipv6 === undefined ? [address] : [address, ipv6.address];
  }

  /** Makes the sandbox; on failure nothing of it is left, so that it can be tried again. */
  async up(): Promise<void> {
    if (this.#netns !== undefined) {
      this.#address ??= this.#context.addresses.take();
      const { config } = this.#context;
      this.#addresses = podAddresses(config, this.#pod, this.#address);
      try {
        const first = await addPodNetwork(config, this.#netns, this.#addresses);
        this.#result = first;
        this.#result = await addToChain(this.#context.rootfs, this.#sandbox(this.#netns), first);
      } catch (err) {
        await this.#remove(this.#netns);
        throw err;
      }
    }
    this.#isUp = true;
  }

  /** Removes the sandbox. */
  async down(): Promise<void> {
    this.#isUp = false;
    if (this.#netns === undefined) return;
    await this.#remove(this.#netns);
    if (this.#address !== undefined) this.#context.addresses.release(this.#address);
    this.#address = undefined;
  }

  async #remove(netns: string): Promise<void> {
    try {
      if (this.#result !== undefined) {
        await removeFromChain(this.#context.rootfs, this.#sandbox(netns), this.#result);
      }
      this.#result = undefined;
      await removePodNetwork(this.#context.config, netns);
    } catch (err) {
      log.warn({ netns, err: errorMessage(err) }, 'sandbox not removed cleanly');
    }
  }

  #sandbox(netns: string): PodSandbox {
    const { namespace = 'default', name, uid = '' } = this.#pod.metadata;
    return { containerId: uid, netns, namespace, name, uid };
  }
}
