// Deploys a waypoint for each Gateway of our classes and writes the Gateway's status. Level-triggered: each
// reconcile compares what is wanted with what is there, so a restart or a missed event costs nothing.
import { createHash } from 'node:crypto';
import type { Clock } from '../../common/clock.ts';
import { WAYPOINT_CONTROLLERS } from '../../common/compile/gateways.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { Informer } from '../../common/kube/informer.ts';
import type { ObjectChange } from '../../common/kube/informer.ts';
import { KINDS, keyOf } from '../../common/kube/resource.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { ClusterWatch, WatchedName } from '../watch/cluster-watch.ts';
import { isOurClass, reconcileClass } from './gateway-classes.ts';
import { buildGatewayStatus, isSameStatus } from './gateway-status.ts';
import type { GatewayFacts } from './gateway-status.ts';
import { KeyedQueue } from './keyed-queue.ts';
import { MANAGED_LABEL, MANAGED_VALUE, buildWaypoint, waypointName } from './waypoint-objects.ts';
import type { GatewayObject, WaypointSettings } from './waypoint-objects.ts';

/** Field manager of everything the deployer applies; Istio's, so that either can take over. */
export const FIELD_MANAGER = 'istio.io/mesh-controller';

const CLASS_PREFIX = 'class:';
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

/** Options of {@link WaypointDeployer}. */
export interface WaypointDeployerOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly watch: ClusterWatch;
  readonly settings: WaypointSettings;
  readonly domain: string;
}

interface Applied {
  readonly hash: string;
  readonly deploymentGeneration: number | undefined;
}

/** The deployer. */
export class WaypointDeployer {
  readonly #options: WaypointDeployerOptions;
  readonly #queue: KeyedQueue;
  readonly #deployments: Informer<KubeObject>;
  /** By Gateway; what was applied last, to tell drift from our own change. */
  readonly #applied = new Map<string, Applied>();

  constructor(options: WaypointDeployerOptions) {
    this.#options = options;
    const { client, clock, logger } = options;
    this.#queue = new KeyedQueue({ clock, logger, work: (key) => this.#work(key) });
    this.#deployments = new Informer({
      client,
      clock,
      logger,
      kind: KINDS.deployments,
      labelSelector: `${MANAGED_LABEL}=${MANAGED_VALUE}`,
      onChange: ({ current, previous }) => this.#noteOwner(current ?? previous),
    });
  }

  /** Starts; call when the watch is ready. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#queue.close(), { once: true });
    this.noteClasses();
    for (const key of this.#options.watch.objects('gateways').keys()) this.#queue.add(key);
    await this.#deployments.run(signal);
  }

  /** Looks after all classes; call also when the kind has been installed. */
  noteClasses(): void {
    for (const name of Object.keys(WAYPOINT_CONTROLLERS)) this.#queue.add(`${CLASS_PREFIX}${name}`);
  }

  /** Call for every change of a watched object. */
  onChange(name: WatchedName, { key, current, previous }: ObjectChange<KubeObject>): void {
    const object = current ?? previous;
    if (name === 'gateways') this.#queue.add(key);
    else if (name === 'gatewayClasses') {
      this.#queue.add(`${CLASS_PREFIX}${key}`);
      for (const gateway of this.#options.watch.objects('gateways').keys())
        this.#queue.add(gateway);
    } else if (name === 'services' || name === 'endpointSlices') this.#noteOwner(object);
  }

  #noteOwner(object: KubeObject | undefined): void {
    const { namespace, labels } = object?.metadata ?? {};
    const gateway = labels?.['gateway.networking.k8s.io/gateway-name'];
    if (gateway !== undefined) this.#queue.add(`${namespace ?? ''}/${gateway}`);
    const service = labels?.[SERVICE_NAME_LABEL];
    if (service === undefined) return;
    for (const [key, candidate] of this.#options.watch.objects('gateways')) {
      const isOwn = candidate.metadata?.namespace === namespace;
      if (isOwn && waypointName(candidate) === service) this.#queue.add(key);
    }
  }

  async #work(key: string): Promise<void> {
    const { client, watch, clock } = this.#options;
    const now = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
    if (key.startsWith(CLASS_PREFIX)) {
      if (watch.isAbsent('gatewayClasses')) return;
      const name = key.slice(CLASS_PREFIX.length);
      await reconcileClass(client, name, watch.objects('gatewayClasses').get(name), now);
      return;
    }
    const gateway = watch.objects('gateways').get(key);
    if (gateway === undefined) this.#applied.delete(key);
    if (gateway === undefined || gateway.metadata?.deletionTimestamp !== undefined) return;
    const className = gateway.spec?.gatewayClassName ?? '';
    if (!isOurClass(watch.objects('gatewayClasses').get(className))) return;
    if ((gateway.spec?.addresses?.length ?? 0) > 0) return; // unmanaged: the user runs it
    const problem = await this.#apply(gateway);
    await this.#writeStatus(gateway, problem, now);
  }

  /** Applies the objects when they differ from what was applied; returns why it cannot. */
  async #apply(gateway: GatewayObject): Promise<string | undefined> {
    const { client, logger, settings, watch } = this.#options;
    const objects = buildWaypoint(gateway, settings);
    const key = `${gateway.metadata?.namespace ?? ''}/${waypointName(gateway)}`;
    const hash = createHash('sha256').update(JSON.stringify(objects)).digest('hex');
    const known = this.#applied.get(keyOf(gateway));
    const live = this.#deployments.objects.get(key);
    const service = watch.objects('services').get(key);
    const isInPlace = live !== undefined && service !== undefined;
    const isSame =
      known?.hash === hash && known.deploymentGeneration === live?.metadata?.generation;
    if (isInPlace && isSame) return undefined;
    const problem = await this.#conflict(gateway, live, service);
    if (problem !== undefined) return problem;
    await client.apply(KINDS.serviceAccounts, objects.serviceAccount, FIELD_MANAGER);
    const applied = await client.apply(KINDS.deployments, objects.deployment, FIELD_MANAGER);
    await client.apply(KINDS.services, objects.service, FIELD_MANAGER);
    this.#applied.set(keyOf(gateway), { hash, deploymentGeneration: applied.metadata?.generation });
    logger.info({ gateway: key }, 'waypoint applied');
    return undefined;
  }

  /** Objects of that name that someone else made must not be taken over. */
  async #conflict(
    gateway: GatewayObject,
    deployment: KubeObject | undefined,
    service: KubeObject | undefined,
  ): Promise<string | undefined> {
    const name = waypointName(gateway);
    const namespace = gateway.metadata?.namespace ?? '';
    if (service !== undefined && !isManaged(service)) {
      return `service ${name} exists and does not belong to this gateway`;
    }
    if (deployment !== undefined) return undefined;
    const ref = { kind: KINDS.deployments, namespace, name };
    const found = await this.#options.client.get<KubeObject>(ref);
    return found === undefined || isManaged(found)
      ? undefined
      : `deployment ${name} exists and does not belong to this gateway`;
  }

  async #writeStatus(
    gateway: GatewayObject,
    problem: string | undefined,
    now: string,
  ): Promise<void> {
    const { name = '', namespace = '' } = gateway.metadata ?? {};
    const status = buildGatewayStatus(gateway, this.#facts(gateway, problem), now);
    if (isSameStatus(gateway.status, status)) return;
    const ref = { kind: KINDS.gateways, namespace, name };
    await this.#options.client.mergePatch(ref, { status }, 'status');
  }

  #facts(gateway: GatewayObject, problem: string | undefined): GatewayFacts {
    const { watch, domain } = this.#options;
    const name = waypointName(gateway);
    const namespace = gateway.metadata?.namespace ?? '';
    const spec = watch.objects('services').get(`${namespace}/${name}`)?.spec;
    const clusterIps = (spec?.clusterIPs ?? [spec?.clusterIP ?? '']).filter(
      (ip) => ip !== '' && ip !== 'None',
    );
    let readyEndpoints = 0;
    for (const slice of watch.objects('endpointSlices').values()) {
      const { metadata, endpoints = [] } = slice;
      if (metadata?.namespace !== namespace) continue;
      if (metadata.labels?.[SERVICE_NAME_LABEL] !== name) continue;
      readyEndpoints += endpoints.filter(({ conditions }) => conditions?.ready !== false).length;
    }
    return {
      clusterIps,
      hostname: `${name}.${namespace}.svc.${domain}`,
      readyEndpoints,
      ...(problem === undefined ? {} : { problem }),
    };
  }
}

function isManaged(object: KubeObject): boolean {
  return object.metadata?.labels?.[MANAGED_LABEL] === MANAGED_VALUE;
}
