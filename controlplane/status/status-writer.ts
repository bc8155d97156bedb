// Writes verdicts where users look: conditions in the objects' status, and an event for what nobody enforces. Only
// differences are written; conditions of other controllers are kept, and ours that no longer apply removed. A
// write names the version it was computed from, so that two writers cannot undo each other.
import type { Clock, Timer } from '../../common/clock.ts';
import {
  MESH_ACCEPTED,
  ROUTE_CONTROLLER,
  WAYPOINT_ACCEPTED,
  WAYPOINT_BOUND,
  ZTUNNEL_ACCEPTED,
  buildStatus,
} from '../../common/compile/status.ts';
import type { Condition, ParentStatus, StatusUpdate } from '../../common/compile/status.ts';
import type { CompileInput, CompileOutput, Verdict } from '../../common/compile/types.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import type { EventRecorder } from '../../common/kube/events.ts';
import { KINDS } from '../../common/kube/resource.ts';
import type { KubeObject, ResourceKind } from '../../common/kube/resource.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { KeyedQueue } from '../deploy/keyed-queue.ts';
import type { ClusterWatch, WatchedName } from '../watch/cluster-watch.ts';

const OUR_TYPES: readonly string[] = [
  WAYPOINT_BOUND,
  WAYPOINT_ACCEPTED,
  ZTUNNEL_ACCEPTED,
  MESH_ACCEPTED,
];
/** Kinds whose status is written, by the name they are watched under. */
const WRITTEN: readonly WatchedName[] = [
  'services',
  'serviceEntries',
  'virtualServices',
  'destinationRules',
  'authorizationPolicies',
  'peerAuthentications',
  'httpRoutes',
];
/** Kinds that have no such status: what is wrong with them is an event all the same. */
const EVENTS_ONLY: readonly WatchedName[] = ['namespaces'];
const EVENT_AFTER_MS = 10_000;
const NO_UPDATE = { conditions: [], parents: [] } as const;

type Timed<T> = T & { readonly lastTransitionTime?: string };

interface LiveParent {
  readonly parentRef: unknown;
  readonly controllerName: string;
  readonly conditions?: ReadonlyArray<Timed<Condition>>;
}

interface LiveObject extends KubeObject {
  readonly status?: {
    readonly conditions?: ReadonlyArray<Timed<Condition>>;
    readonly parents?: readonly LiveParent[];
  };
}

/** Options of {@link StatusWriter}. */
export interface StatusWriterOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly watch: ClusterWatch;
  readonly events: EventRecorder;
}

/** The writer. */
export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #queue: KeyedQueue;
  #wanted: ReadonlyMap<string, StatusUpdate> = new Map();
  /** Verdicts of no effect, by their text, with the time they were first seen. */
  #lossSince: ReadonlyMap<string, { readonly verdict: Verdict; readonly atMs: number }> = new Map();
  #eventTimer: Timer | undefined;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    const { clock, logger } = options;
    this.#queue = new KeyedQueue({ clock, logger, work: (key) => this.#write(key) });
  }

  /** Takes a compiler output: queues what differs from the objects as they are. */
  update(input: CompileInput, output: CompileOutput): void {
    const wanted = new Map<string, StatusUpdate>();
    for (const update of buildStatus(input, output)) {
      wanted.set(`${update.kind}/${update.namespace}/${update.name}`, update);
    }
    this.#wanted = wanted;
    for (const name of WRITTEN) {
      const { kind } = KINDS[name];
      for (const key of this.#options.watch.objects(name).keys()) {
        if (this.#patchFor(name, `${kind}/${key}`) !== undefined) this.#queue.add(`${kind}/${key}`);
      }
    }
    this.#watchLosses(output.verdicts.filter(({ enforcedAt }) => enforcedAt === 'nowhere'));
  }

  close(): void {
    this.#queue.close();
    this.#eventTimer?.cancel();
  }

  async #write(key: string): Promise<void> {
    const found = this.#find(key);
    const patch = found === undefined ? undefined : this.#patchFor(found.name, key);
    if (found === undefined || patch === undefined) return;
    const { namespace = '', name = '' } = found.object.metadata ?? {};
    const ref = { kind: found.kind, namespace, name };
    try {
      await this.#options.client.mergePatch(ref, patch, 'status');
    } catch (err) {
      // Gone, or changed meanwhile: the watch brings the news, and with it the next update.
      if (!isKubeStatus(err, 404) && !isKubeStatus(err, 409)) throw err;
    }
  }

  #find(key: string): { name: WatchedName; kind: ResourceKind; object: LiveObject } | undefined {
    const at = key.indexOf('/');
    const kind = key.slice(0, at);
    const name = [...WRITTEN, ...EVENTS_ONLY].find((each) => KINDS[each].kind === kind);
    if (name === undefined) return undefined;
    // What has no namespace has no slash in its key.
    const inKind = key.slice(at + 1).replace(/^\//, '');
    const object = this.#options.watch.objects(name).get(inKind) as LiveObject | undefined;
    return object === undefined ? undefined : { name, kind: KINDS[name], object };
  }

  #patchFor(name: WatchedName, key: string): object | undefined {
    const object = this.#find(key)?.object;
    if (object === undefined || object.metadata?.deletionTimestamp !== undefined) return undefined;
    const update = this.#wanted.get(key) ?? NO_UPDATE;
    const now = `${new Date(this.#options.clock.now()).toISOString().slice(0, 19)}Z`;
    const status =
      name === 'httpRoutes'
        ? parentsPatch(object.status?.parents ?? [], update.parents ?? [], now)
        : conditionsPatch(object.status?.conditions ?? [], update.conditions, now);
    if (status === undefined) return undefined;
    return { metadata: { resourceVersion: object.metadata?.resourceVersion }, status };
  }

  /** A policy often comes before its pods: only what stays without effect for a while is an event. */
  #watchLosses(losses: readonly Verdict[]): void {
    const { clock } = this.#options;
    const since = this.#lossSince;
    this.#lossSince = new Map(
      losses.map((verdict) => {
        const key = JSON.stringify(verdict);
        return [key, since.get(key) ?? { verdict, atMs: clock.now() }];
      }),
    );
    this.#eventTimer?.cancel();
    if (losses.length > 0) {
      this.#eventTimer = clock.after(EVENT_AFTER_MS, () => void this.#recordEvents());
    }
  }

  async #recordEvents(): Promise<void> {
    const now = this.#options.clock.now();
    for (const { verdict, atMs } of this.#lossSince.values()) {
      if (now - atMs < EVENT_AFTER_MS) continue;
      const found = this.#find(`${verdict.kind}/${verdict.namespace}/${verdict.name}`);
      if (found === undefined) continue;
      await this.#options.events.record({
        kind: found.kind,
        object: found.object,
        type: 'Warning',
        reason: verdict.reason,
        action: 'Compile',
        note: verdict.message,
      });
    }
  }
}

/** Undefined when nothing differs. */
export function conditionsPatch(
  live: ReadonlyArray<Timed<Condition>>,
  wanted: readonly Condition[],
  now: string,
): { conditions: Array<Timed<Condition>> } | undefined {
  const others = live.filter(({ type }) => !OUR_TYPES.includes(type));
  const ours = wanted.map((condition) => withTime(condition, live, now));
  const isSame = others.length + ours.length === live.length && ours.every((c) => isIn(c, live));
  return isSame ? undefined : { conditions: [...others, ...ours] };
}

/** Undefined when nothing differs. */
export function parentsPatch(
  live: readonly LiveParent[],
  wanted: readonly ParentStatus[],
  now: string,
): { parents: LiveParent[] } | undefined {
  const others = live.filter(({ controllerName }) => controllerName !== ROUTE_CONTROLLER);
  const ours = wanted.map((parent): LiveParent => {
    const before = live.find(
      (entry) =>
        entry.controllerName === parent.controllerName &&
        JSON.stringify(entry.parentRef) === JSON.stringify(parent.parentRef),
    );
    const conditions = parent.conditions.map((c) => withTime(c, before?.conditions ?? [], now));
    return { ...parent, conditions };
  });
  const isSame =
    others.length + ours.length === live.length &&
    ours.every((parent) => {
      const before = live.find(
        (e) =>
          JSON.stringify(e.parentRef) === JSON.stringify(parent.parentRef) &&
          e.controllerName === parent.controllerName,
      );
      const conditions = before?.conditions ?? [];
      return (
        conditions.length === (parent.conditions ?? []).length &&
        (parent.conditions ?? []).every((c) => isIn(c, conditions))
      );
    });
  return isSame ? undefined : { parents: [...others, ...ours] };
}

function withTime(
  condition: Condition,
  live: ReadonlyArray<Timed<Condition>>,
  now: string,
): Timed<Condition> {
  const before = live.find(
    ({ type, status }) => type === condition.type && status === condition.status,
  );
  return { ...condition, lastTransitionTime: before?.lastTransitionTime ?? now };
}

function isIn(condition: Condition, live: ReadonlyArray<Timed<Condition>>): boolean {
  return live.some(
    ({ type, status, reason, message, observedGeneration }) =>
      type === condition.type &&
      status === condition.status &&
      reason === condition.reason &&
      message === condition.message &&
      observedGeneration === condition.observedGeneration,
  );
}
