// Watches every kind the compiler and the controllers read, and hands out one snapshot. Kinds whose CRDs are not
// installed count as empty until they appear.
import type { Clock } from '../../common/clock.ts';
import type {
  CompileInput,
  ConfigObject,
  EndpointSlice,
  Namespace,
  NetworkPolicy,
  Node,
  Pod,
  Service,
} from '../../common/compile/types.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { Informer } from '../../common/kube/informer.ts';
import type { ObjectChange } from '../../common/kube/informer.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { KubeMeta, KubeObject, ResourceKind } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { GatewayClassObject } from '../deploy/gateway-classes.ts';
import type { GatewayObject } from '../deploy/waypoint-objects.ts';

/** An object as the API returns it, seen as the compiler's type. */
export type Watched<T> = T & KubeObject & { readonly metadata?: KubeMeta };

/** Objects of each kind. */
export interface WatchedKinds {
  readonly pods: Watched<Pod>;
  readonly services: Watched<Service>;
  readonly endpointSlices: Watched<EndpointSlice>;
  readonly networkPolicies: Watched<NetworkPolicy>;
  readonly namespaces: Watched<Namespace>;
  readonly nodes: Watched<Node>;
  readonly gateways: GatewayObject;
  readonly gatewayClasses: GatewayClassObject;
  readonly httpRoutes: Watched<ConfigObject>;
  readonly virtualServices: Watched<ConfigObject>;
  readonly destinationRules: Watched<ConfigObject>;
  readonly authorizationPolicies: Watched<ConfigObject>;
  readonly peerAuthentications: Watched<ConfigObject>;
  readonly serviceEntries: Watched<ConfigObject>;
  readonly workloadEntries: Watched<ConfigObject>;
}

/** Name of a watched kind: a field of the compiler's input. */
export type WatchedName = keyof WatchedKinds;

type Informers = { readonly [Name in WatchedName]: Informer<WatchedKinds[Name]> };

/** Options of {@link ClusterWatch}. */
export interface ClusterWatchOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onChange: (name: WatchedName, change: ObjectChange<KubeObject>) => void;
  /** A kind that was missing has been installed. */
  readonly onAppeared: (name: WatchedName) => void;
}

/** All informers. */
export class ClusterWatch {
  readonly #options: ClusterWatchOptions;
  readonly #informers: Informers;
  #isReady = false;
  #markReady: () => void = () => undefined;
  /** Resolves when every kind has been listed once. */
  readonly ready: Promise<void>;

  constructor(options: ClusterWatchOptions) {
    this.#options = options;
    this.ready = new Promise((resolve) => (this.#markReady = resolve));
    this.#informers = {
      pods: this.#informer('pods', KINDS.pods),
      services: this.#informer('services', KINDS.services),
      endpointSlices: this.#informer('endpointSlices', KINDS.endpointSlices),
      networkPolicies: this.#informer('networkPolicies', KINDS.networkPolicies),
      namespaces: this.#informer('namespaces', KINDS.namespaces),
      nodes: this.#informer('nodes', KINDS.nodes),
      gateways: this.#informer('gateways', KINDS.gateways),
      gatewayClasses: this.#informer('gatewayClasses', KINDS.gatewayClasses),
      httpRoutes: this.#informer('httpRoutes', KINDS.httpRoutes),
      virtualServices: this.#informer('virtualServices', KINDS.virtualServices),
      destinationRules: this.#informer('destinationRules', KINDS.destinationRules),
      authorizationPolicies: this.#informer('authorizationPolicies', KINDS.authorizationPolicies),
      peerAuthentications: this.#informer('peerAuthentications', KINDS.peerAuthentications),
      serviceEntries: this.#informer('serviceEntries', KINDS.serviceEntries),
      workloadEntries: this.#informer('workloadEntries', KINDS.workloadEntries),
    };
  }

  /** Objects of a kind by `namespace/name`. */
  objects<Name extends WatchedName>(name: Name): Informers[Name]['objects'] {
    return this.#informers[name].objects;
  }

  /** True when the API has no such kind. */
  isAbsent(name: WatchedName): boolean {
    return this.#informers[name].isAbsent;
  }

  /** Watches until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(Object.values(this.#informers).map((informer) => informer.run(signal)));
  }

  /** What the compiler reads, apart from the mesh settings. */
  snapshot(): Omit<CompileInput, 'mesh'> {
    const all = this.#informers;
    return {
      pods: [...all.pods.objects.values()],
      services: [...all.services.objects.values()],
      endpointSlices: [...all.endpointSlices.objects.values()],
      networkPolicies: [...all.networkPolicies.objects.values()],
      namespaces: [...all.namespaces.objects.values()],
      nodes: [...all.nodes.objects.values()],
      gateways: [...all.gateways.objects.values()],
      gatewayClasses: [...all.gatewayClasses.objects.values()],
      httpRoutes: [...all.httpRoutes.objects.values()],
      virtualServices: [...all.virtualServices.objects.values()],
      destinationRules: [...all.destinationRules.objects.values()],
      authorizationPolicies: [...all.authorizationPolicies.objects.values()],
      peerAuthentications: [...all.peerAuthentications.objects.values()],
      serviceEntries: [...all.serviceEntries.objects.values()],
      workloadEntries: [...all.workloadEntries.objects.values()],
    };
  }

  #informer<T extends KubeObject>(name: WatchedName, kind: ResourceKind): Informer<T> {
    const { client, clock, logger, onChange, onAppeared } = this.#options;
    return new Informer<T>({
      client,
      kind,
      clock,
      logger,
      onChange: (change) => {
        if (name !== 'nodes' || isNodeChange(change)) onChange(name, change);
      },
      onSynced: () => this.#onSynced(),
      onAppeared: () => onAppeared(name),
    });
  }

  #onSynced(): void {
    if (this.#isReady || !Object.values(this.#informers).every(({ hasSynced }) => hasSynced))
      return;
    this.#isReady = true;
    this.#markReady();
  }
}

/** A node's status changes all the time and nothing here reads it. */
function isNodeChange({ current, previous }: ObjectChange<KubeObject>): boolean {
  return (
    JSON.stringify(current?.metadata?.labels ?? {}) !==
      JSON.stringify(previous?.metadata?.labels ?? {}) ||
    (current === undefined) !== (previous === undefined)
  );
}
