// The control thread's whole model: workloads, services, policies; fed by delta xDS or a local file, forwarded to the
// data thread before a push is acknowledged, and the source of certificate prefetch.
import type { Clock } from '../../common/clock.ts';
import type { SecretManager } from '../../common/identity/secret-manager.ts';
import { AUTHORIZATION_TYPE_URL, decodeAuthorization } from '../../common/policy/decode.ts';
import type { Policy } from '../../common/policy/model.ts';
import { ADDRESS_TYPE_URL, decodeAddress } from '../../common/workload/decode.ts';
import type { LocalState } from '../../common/workload/local-file.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { AddressResource, Workload } from '../../common/workload/model.ts';
import { WorkloadStore } from '../../common/workload/store.ts';
import { subscribeWith } from '../../common/xds/delta-client.ts';
import type { DeltaSubscription, DeltaUpdate } from '../../common/xds/delta-client.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import type { DataThreads } from '../data-threads.ts';
import { goneNames } from './local-state.ts';
import { namesOf, OnDemand } from './on-demand.ts';
import { NOTHING, StatePublisher } from './publisher.ts';
import type { Publication } from './publisher.ts';

/** Options of {@link MeshModel}. */
export interface MeshModelOptions {
  /** Of this node: those whose certificates are fetched ahead, and whose records the data thread always has. */
  readonly isLocal: (workload: Workload) => boolean;
  readonly data: Pick<DataThreads, 'request'>;
  readonly secrets: SecretManager;
  /** Addresses are asked for one by one; pods' own records by the cluster's name. Undefined: all come. */
  readonly onDemand?: { readonly clock: Clock; readonly clusterId: string };
}

type ChangeNames = (added: readonly string[], dropped: readonly string[]) => void;

/** Owns the model. */
export class MeshModel {
  readonly store = new WorkloadStore();
  readonly policies = new Map<string, Policy>();
  readonly #options: MeshModelOptions;
  readonly #publisher: StatePublisher;
  /** Identity to the local workloads (uid) that use it. */
  readonly #identities = new Map<string, Set<string>>();
  readonly #demand: OnDemand | undefined;
  /** Names that the push being applied has brought and taken. */
  #present: string[] = [];
  #absent: string[] = [];
  /** Names that resources had before it. */
  #left: string[] = [];
  #changeNames: ChangeNames = () => undefined;

  constructor(options: MeshModelOptions) {
    this.#options = options;
    this.#publisher = new StatePublisher(this.store, options.isLocal);
    this.#demand =
      options.onDemand &&
      new OnDemand({
        store: this.store,
        clock: options.onDemand.clock,
        changeNames: (added, dropped) => this.#changeNames(added, dropped),
        onForgotten: (names) => {
          this.#send(this.#publisher.forget(names)).catch(() => undefined);
        },
      });
  }

  /** Where names are asked for; before that they wait. */
  askThrough(changeNames: ChangeNames): void {
    this.#changeNames = changeNames;
  }

  /** A pod that this proxy serves. */
  expect({ namespace, name }: PodInfo): void {
    // Else its record comes by itself.
    const clusterId = this.#options.onDemand?.clusterId ?? '';
    this.#ask(`${clusterId}//Pod/${namespace}/${name}`);
  }

  #ask(name: string): void {
    // Who needs the answer waits for it elsewhere.
    this.#demand?.fetch(name).catch(() => undefined);
  }

  /** The xDS subscriptions that feed this model. */
  subscriptions(): DeltaSubscription[] {
    return [
      subscribeWith(
        ADDRESS_TYPE_URL,
        decodeAddress,
        (update) => this.#applyPush(update),
        this.#demand,
      ),
      subscribeWith(AUTHORIZATION_TYPE_URL, decodeAuthorization, ({ upserts, removed }) =>
        this.applyPolicies(
          upserts.map(({ resource }) => resource),
          removed,
        ),
      ),
    ];
  }

  async #applyPush({ upserts, removed, isLast }: DeltaUpdate<AddressResource>): Promise<void> {
    const resources = upserts.map(({ resource }) => resource);
    if (this.#demand === undefined) return this.applyAddresses(resources, removed);
    for (const { resource, aliases } of upserts) {
      const names = namesOf(resource, aliases);
      const old = this.store.find(names[0] ?? '');
      this.#present.push(...names);
      if (old !== undefined) this.#left.push(...namesOf(old, []).filter((n) => !names.includes(n)));
    }
    for (const name of removed) {
      const gone = this.store.find(name);
      this.#absent.push(name);
      if (gone !== undefined) this.#left.push(...namesOf(gone, []).filter((n) => n !== name));
    }
    await this.applyAddresses(resources, removed);
    for (const resource of resources) this.#askForServices(resource);
    if (!isLast) return;
    const present = new Set(this.#present.splice(0));
    this.#demand.applied(present, this.#absent.splice(0));
    this.#demand.left(this.#left.splice(0).filter((name) => !present.has(name)));
  }

  /** What comes to a pod of ours is told by its services. */
  #askForServices(resource: AddressResource): void {
    if (resource.kind !== 'workload' || !this.#options.isLocal(resource.workload)) return;
    for (const key of Object.keys(resource.workload.services)) this.#ask(key);
  }

  /** Loads a local file's content; what `before` had and it has not goes, policies when no workload names them. */
  async applyLocal(state: LocalState, before?: LocalState): Promise<void> {
    const gone = before && goneNames(before, state);
    await this.applyPolicies(state.policies, []);
    await this.applyAddresses(
      [
        ...state.workloads.map((workload) => ({ kind: 'workload' as const, workload })),
        ...state.services.map((service) => ({ kind: 'service' as const, service })),
      ],
      gone?.addresses ?? [],
    );
    if (gone !== undefined && gone.policies.length > 0) await this.applyPolicies([], gone.policies);
  }

  /** Applies and forwards; resolves when the data thread has it. */
  async applyAddresses(
    upserts: readonly AddressResource[],
    removed: readonly string[],
  ): Promise<void> {
    for (const resource of upserts) {
      if (resource.kind === 'workload') this.#trackIdentity(resource.workload);
      this.store.upsert(resource);
    }
    for (const name of removed) {
      const gone = this.store.remove(name);
      if (gone?.kind === 'workload') this.#untrackIdentity(gone.workload);
    }
    const publication = this.#publisher.publish(upserts, removed);
    if (publication !== undefined) await this.#send(publication);
  }

  async applyPolicies(upserts: readonly Policy[], removed: readonly string[]): Promise<void> {
    for (const policy of upserts) this.policies.set(policy.key, policy);
    for (const key of removed) this.policies.delete(key);
    await this.#options.data.request({ kind: 'policies', upserts, removed });
  }

  /** The data thread asks about an address. */
  async answerLookup(key: string): Promise<void> {
    const isAnswered = (await this.#demand?.complete(key)) ?? true;
    await this.#send(isAnswered ? this.#publisher.lookup(key) : { ...NOTHING, unanswered: [key] });
  }

  async #send(publication: Publication): Promise<void> {
    await this.#options.data.request({ kind: 'state', ...publication });
  }

  #trackIdentity(workload: Workload): void {
    const old = this.store.workload(workload.uid);
    const identity = workloadIdentity(workload);
    const isMeshed = workload.protocol === 'HBONE' || workload.isNativeTunnel;
    if (
      old !== undefined &&
      (!this.#options.isLocal(workload) || workloadIdentity(old) !== identity)
    ) {
      this.#untrackIdentity(old);
    }
    if (!this.#options.isLocal(workload)) return;
    // A local pod that has just left the mesh keeps its identity: ZDS may still serve it, and it may come back.
    const users = this.#identities.get(identity) ?? new Set();
    if (users.size === 0 && !isMeshed) return;
    users.add(workload.uid);
    this.#identities.set(identity, users);
    this.#options.secrets.prefetch(identity);
  }

  #untrackIdentity(workload: Workload): void {
    const identity = workloadIdentity(workload);
    const users = this.#identities.get(identity);
    if (users?.delete(workload.uid) !== true || users.size > 0) return;
    this.#identities.delete(identity);
    this.#options.secrets.forget(identity);
    this.#options.data.request({ kind: 'forgetCertificate', identity }).catch(() => undefined);
  }
}
