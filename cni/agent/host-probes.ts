// Keeps the node's probe exemption: the addresses of enrolled pods in the node's nftables set. Entries belong to
// a pod uid, so that a late removal does not hit the next owner of an address.
import { buildHostRemoval, buildHostRules, type HostRulesOptions } from '../rules/host-rules.ts';
import { loadRules } from './netns-command.ts';

export class HostProbes {
  readonly #options: HostRulesOptions;
  readonly #owners = new Map<string, string>();
  #applied = '';
  #queue: Promise<void> = Promise.resolve();

  constructor(options: HostRulesOptions) {
    this.#options = options;
  }

  /** Exempts probes to these addresses. */
  add(uid: string, ips: readonly string[]): Promise<void> {
    for (const ip of ips) this.#owners.set(ip, uid);
    return this.apply();
  }

  /** Ends the exemption of a pod. */
  remove(uid: string): Promise<void> {
    for (const [ip, owner] of this.#owners) if (owner === uid) this.#owners.delete(ip);
    return this.apply();
  }

  /** Brings the rules in line; also called once at the start, to drop what an earlier agent left. */
  apply(): Promise<void> {
    const work = this.#queue.then(async () => {
      const targets = [...this.#owners].map(([ip, uid]) => ({ ip, uid }));
      const rules = buildHostRules(targets, this.#options);
      if (rules === this.#applied) return;
      await loadRules(undefined, rules);
      this.#applied = rules;
    });
    this.#queue = work.catch(() => undefined);
    return work;
  }

  /** Removes the rules (uninstall). */
  async clear(): Promise<void> {
    await loadRules(undefined, buildHostRemoval());
  }
}
