// Watches services and endpoint slices for one node: keeps its nftables rules and its DNS zone up to date. A
// change during an nft run starts one more run after it; rules are replaced in one transaction.
import { errorMessage } from '../../common/errors.ts';
import type { ObjectChange } from '../../common/kube/informer.ts';
import { KINDS, type ResourceKind } from '../../common/kube/resource.ts';
import type { DnsAnswer } from '../../common/dns/codec.ts';
import { bridgeIpv6, SERVICE_CIDR_V6, serviceIpv6 } from '../ipv6.ts';
import { ClusterDns } from './cluster-dns.ts';
import { buildZone, resolveName, type DnsZone } from './dns-records.ts';
import { log } from './log.ts';
import type { NodeContext } from './node-context.ts';
import type { EndpointSlice, KubeObject, Service } from './objects.ts';
import { runCommand } from './run-command.ts';
import { buildServiceRules } from './service-rules.ts';

export class NodeServices {
  readonly #context: NodeContext;
  readonly #services = new Map<string, Service>();
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #dns: ClusterDns;
  #zone: DnsZone;
  #isZoneStale = false;
  #isRunning = false;
  #isDirty = false;
  #applied = '';

  constructor(context: NodeContext) {
    this.#context = context;
    this.#zone = buildZone(context.config.clusterDomain, [], []);
    this.#dns = new ClusterDns((name, type) => this.#resolve(name, type));
  }

  /** Serves until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clusterDns, ipv6 } = this.#context.config;
    await this.#dns.open(clusterDns);
    if (ipv6 !== undefined) await this.#dns.open(serviceIpv6(clusterDns));
    await Promise.all([
      this.#watch(KINDS.services, this.#services, signal),
      this.#watch(KINDS.endpointSlices, this.#slices, signal),
    ]);
    this.#dns.close();
  }

  #watch<T extends KubeObject>(
    kind: ResourceKind,
    into: Map<string, T>,
    signal: AbortSignal,
  ): Promise<void> {
    const onChange = ({ key, current }: ObjectChange<T>): void => {
      if (current === undefined) into.delete(key);
      else into.set(key, current);
      this.#changed();
    };
    return this.#context.api.watch<T>({ kind, onChange }, signal);
  }

  #resolve(name: string, type: string): DnsAnswer {
    if (this.#isZoneStale) {
      const { clusterDomain } = this.#context.config;
      this.#zone = buildZone(clusterDomain, this.#services.values(), this.#slices.values());
      this.#isZoneStale = false;
    }
    return resolveName(this.#zone, name, type);
  }

  #changed(): void {
    this.#isZoneStale = true;
    this.#isDirty = true;
    if (!this.#isRunning) void this.#apply();
  }

  /** The rules of both families. */
  #rules(): string {
    const { config } = this.#context;
    const { ipv6 } = config;
    const all = { services: [...this.#services.values()], slices: [...this.#slices.values()] };
    const ip = buildServiceRules({
      ...all,
      family: 'ip',
      serviceCidr: config.serviceCidr,
      clusterDns: config.clusterDns,
      nodeAddress: config.address,
      bridgeAddress: config.api.host,
      api: config.api,
    });
    if (ipv6 === undefined) return ip;
    const ip6 = buildServiceRules({
      ...all,
      family: 'ip6',
      serviceCidr: SERVICE_CIDR_V6,
      clusterDns: serviceIpv6(config.clusterDns),
      nodeAddress: ipv6.address,
      bridgeAddress: bridgeIpv6(config.instance),
    });
    return ip + ip6;
  }

  async #apply(): Promise<void> {
    this.#isRunning = true;
    while (this.#isDirty) {
      // One turn of the loop gathers what a snapshot or a burst of events brings.
      await new Promise((resolve) => setImmediate(resolve));
      this.#isDirty = false;
      const rules = this.#rules();
      if (rules === this.#applied) continue;
      try {
        await runCommand(['nft', '-f', '-'], { stdin: rules });
        this.#applied = rules;
      } catch (err) {
        log.error({ err: errorMessage(err) }, 'service rules not applied');
      }
    }
    this.#isRunning = false;
  }
}
