// Delta xDS client (envoy.service.discovery.v3), transport passed in. Resources are kept by their owners; this
// keeps names and versions, answers each push with ACK or NACK, and reconnects for ever. State survives outages
// (fail static). An ACK is sent only after the owner has applied the push, which the leaving protocol relies on.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import type { JsonObject } from '@bufbuild/protobuf';
import { errorMessage } from '../errors.ts';
import type { Clock, Timer } from '../clock.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { DeltaPush, RawResource } from './delta-push.ts';
import { DeltaDiscoveryRequestSchema, NodeSchema } from './gen/discovery_pb.ts';
import type { DeltaDiscoveryRequest } from './gen/discovery_pb.ts';

/** One resource of a push, decoded. */
export interface DeltaResource<T> {
  readonly name: string;
  readonly version: string;
  /** Other names it was asked for by. */
  readonly aliases: readonly string[];
  readonly resource: T;
}

/** What a push changed. Apply upserts before removals. */
export interface DeltaUpdate<T> {
  readonly upserts: ReadonlyArray<DeltaResource<T>>;
  readonly removed: readonly string[];
  /** The end of a push. */
  readonly isLast: boolean;
}

/** Names a client asks for one by one. */
export interface WantedNames {
  /** Those that have been answered, and the rest of what is wanted. */
  readonly answered: Iterable<string>;
  readonly unanswered: Iterable<string>;
}

/** A type the client subscribes to: by wildcard, or on demand. */
export interface DeltaSubscription {
  readonly typeUrl: string;
  /** Undefined: everything. */
  readonly wanted?: WantedNames;
  /** Decodes and applies; returns the resources it refused. The ACK waits for the promise. */
  apply(
    resources: Iterable<RawResource>,
    removed: readonly string[],
  ): Promise<readonly RejectedResource[]>;
}

/** A resource that was not taken, with a reason for the control plane. */
export interface RejectedResource {
  readonly name: string;
  readonly reason: string;
}

/** Some 2 ms of work. What else the thread does, such as DNS for pods, does not wait for a large push. */
const SLICE_RESOURCES = 256;

/**
 * Builds a subscription from a decoder (throws on a bad resource) and the function that applies a push. A large push is
 * applied in slices, its removals with the last.
 */
export function subscribeWith<T>(
  typeUrl: string,
  decode: (value: Uint8Array, name: string) => T,
  apply: (update: DeltaUpdate<T>) => void | Promise<void>,
  wanted?: WantedNames,
): DeltaSubscription {
  return {
    typeUrl,
    ...(wanted === undefined ? {} : { wanted }),
    async apply(resources, removed) {
      const rejected: RejectedResource[] = [];
      let upserts: DeltaResource<T>[] = [];
      for (const { name, version, aliases, value, otherType } of resources) {
        if (upserts.length === SLICE_RESOURCES) {
          await apply({ upserts, removed: [], isLast: false });
          upserts = [];
          await nextTurn();
        }
        if (otherType !== undefined) {
          rejected.push({ name, reason: `is of another type: ${otherType}` });
          continue;
        }
        try {
          upserts.push({ name, version, aliases, resource: decode(value, name) });
        } catch (err) {
          rejected.push({ name, reason: errorMessage(err) });
        }
      }
      await apply({ upserts, removed, isLast: true });
      return rejected;
    },
  };
}

/** How a stream ended; names are the values of `istio_xds_connection_terminations_total{reason}`. */
export interface StreamEnd {
  readonly reason: 'ConnectionError' | 'Error' | 'Reconnect' | 'Complete';
  readonly detail: string;
}

/** An open stream to the control plane. */
export interface DeltaStream {
  send(request: DeltaDiscoveryRequest): void;
  close(): void;
}

/** Opens a stream; `onEnd` comes once, also when the connection cannot be made. See common/grpc/delta-stream.ts. */
export type OpenDeltaStream = (events: {
  onResponse(push: DeltaPush): void;
  onEnd(end: StreamEnd): void;
}) => DeltaStream;

/** Options of {@link DeltaClient}. */
export interface DeltaClientOptions {
  readonly nodeId: string;
  readonly nodeMetadata: JsonObject;
  readonly subscriptions: readonly DeltaSubscription[];
  readonly openStream: OpenDeltaStream;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once, when each type has had its first accepted push. */
  onSynced?(): void;
  /** For metrics. */
  onStreamEnd?(end: StreamEnd): void;
  onMessage?(typeUrl: string, bytes: number): void;
}

const FIRST_DELAY_MS = 20;
const MAX_DELAY_MS = 15_000;

/** A late event of an earlier stream finds `isCurrent` false. */
interface StreamState {
  isCurrent: boolean;
}

interface TypeState {
  readonly subscription: DeltaSubscription;
  /** Name to version of everything taken and not removed. */
  readonly versions: Map<string, string>;
  isWarm: boolean;
  /** Pushes of a type are applied one after another. */
  queue: Promise<void>;
}

/** Keeps one stream open and feeds its subscriptions. */
export class DeltaClient {
  readonly #options: DeltaClientOptions;
  readonly #types = new Map<string, TypeState>();
  #stream: DeltaStream | undefined;
  #retry: Timer | undefined;
  #delayMs = 0;
  #isSynced = false;
  #isClosed = false;

  constructor(options: DeltaClientOptions) {
    this.#options = options;
    for (const subscription of options.subscriptions) {
      this.#types.set(subscription.typeUrl, {
        subscription,
        versions: new Map(),
        // Nothing need come of what is asked for one by one.
        isWarm: subscription.wanted !== undefined,
        queue: Promise.resolve(),
      });
    }
  }

  /** True once every type has had an accepted push. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Connects, and reconnects until {@link close}. */
  start(): void {
    if (this.#isClosed) return;
    // A late event of an earlier stream must not touch a newer one.
    const state = { isCurrent: true };
    const stream = this.#options.openStream({
      onResponse: (push) => {
        if (state.isCurrent) this.#onResponse(push, state);
      },
      onEnd: (end) => {
        state.isCurrent = false;
        this.#onEnd(end);
      },
    });
    if (!this.#isOpen(state)) return;
    this.#stream = stream;
    for (const state of this.#types.values()) this.#subscribe(stream, state);
    if (this.#types.size === 0) this.#markSynced();
  }

  /** Asks for names of a type on demand, or no longer. Between streams nothing is sent: the next one begins with all. */
  changeNames(typeUrl: string, added: readonly string[], dropped: readonly string[]): void {
    if (added.length + dropped.length === 0) return;
    this.#stream?.send(
      create(DeltaDiscoveryRequestSchema, {
        typeUrl,
        resourceNamesSubscribe: [...added],
        resourceNamesUnsubscribe: [...dropped],
      }),
    );
  }

  #subscribe(stream: DeltaStream, { subscription, versions }: TypeState): void {
    const { typeUrl, wanted } = subscription;
    const { nodeId: id, nodeMetadata: metadata } = this.#options;
    // `*` taken back at once: a first request that names nothing would mean everything.
    const names =
      wanted === undefined
        ? {}
        : { resourceNamesSubscribe: ['*', ...wanted.answered], resourceNamesUnsubscribe: ['*'] };
    stream.send(
      create(DeltaDiscoveryRequestSchema, {
        typeUrl,
        initialResourceVersions: Object.fromEntries(versions),
        node: create(NodeSchema, { id, metadata }),
        ...names,
      }),
    );
    // Apart: whoever waits needs an answer, also when what is meant is held under another name.
    if (wanted !== undefined) this.changeNames(typeUrl, [...wanted.unanswered], []);
  }

  /** Ends the stream and does not come back. */
  close(): void {
    this.#isClosed = true;
    this.#retry?.cancel();
    this.#stream?.close();
    this.#stream = undefined;
  }

  /** Whether the stream has survived its opening; a method, because the callback changes it. */
  #isOpen(state: StreamState): boolean {
    return state.isCurrent;
  }

  #onResponse(push: DeltaPush, stream: StreamState): void {
    this.#delayMs = 0;
    const { typeUrl, nonce } = push;
    const state = this.#types.get(typeUrl);
    if (state === undefined) {
      this.#options.logger.error({ typeUrl }, 'push of an unknown xds type');
      this.#send({ typeUrl, responseNonce: nonce });
      return;
    }
    state.queue = state.queue
      .then(() => this.#apply(state, push))
      .then(
        (rejected) => {
          if (stream.isCurrent) this.#answer(state, nonce, rejected);
        },
        (err: unknown) => {
          const reason = errorMessage(err);
          this.#options.logger.error({ typeUrl, err: reason }, 'xds push could not be applied');
          if (stream.isCurrent) this.#answer(state, nonce, [{ name: '*', reason }]);
        },
      );
  }

  async #apply(state: TypeState, push: DeltaPush): Promise<readonly RejectedResource[]> {
    const taken: { name: string; version: string }[] = [];
    let bytes = 0;
    const noted = function* (): Generator<RawResource> {
      for (const resource of push.resources) {
        taken.push({ name: resource.name, version: resource.version });
        bytes += resource.value.length;
        yield resource;
      }
    };
    const rejected = await state.subscription.apply(noted(), push.removedResources);
    this.#options.onMessage?.(push.typeUrl, bytes);
    const refused = new Set(rejected.map(({ name }) => name));
    for (const { name, version } of taken) {
      if (!refused.has(name)) state.versions.set(name, version);
    }
    for (const name of push.removedResources) state.versions.delete(name);
    return rejected;
  }

  #answer(state: TypeState, nonce: string, rejected: readonly RejectedResource[]): void {
    const { typeUrl } = state.subscription;
    if (rejected.length === 0) {
      this.#send({ typeUrl, responseNonce: nonce });
      state.isWarm = true;
      if ([...this.#types.values()].every(({ isWarm }) => isWarm)) this.#markSynced();
      return;
    }
    const message = rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
    this.#options.logger.warn({ typeUrl, rejected: message }, 'xds resources rejected');
    this.#send({ typeUrl, responseNonce: nonce, errorDetail: { message } });
  }

  #send(request: {
    typeUrl: string;
    responseNonce: string;
    errorDetail?: { message: string };
  }): void {
    const { errorDetail, ...rest } = request;
    this.#stream?.send(
      create(DeltaDiscoveryRequestSchema, {
        ...rest,
        ...(errorDetail === undefined
          ? {}
          : {
              errorDetail: {
                $typeName: 'envoy.service.discovery.v3.Status',
                code: 0,
                details: [],
                ...errorDetail,
              },
            }),
      }),
    );
  }

  #markSynced(): void {
    if (this.#isSynced) return;
    this.#isSynced = true;
    this.#options.onSynced?.();
  }

  #onEnd(end: StreamEnd): void {
    this.#stream = undefined;
    if (this.#isClosed) return;
    this.#options.onStreamEnd?.(end);
    // Only an orderly restart of the other side is worth an immediate retry; a server that ends every stream
    // at once must not make us spin.
    this.#delayMs =
      end.reason === 'Reconnect' && this.#delayMs === 0
        ? FIRST_DELAY_MS
        : Math.min(MAX_DELAY_MS, Math.max(FIRST_DELAY_MS, this.#delayMs * 2));
    this.#options.logger.info(
      { reason: end.reason, detail: end.detail, retryMs: this.#delayMs },
      'xds stream ended',
    );
    this.#retry = this.#options.clock.after(this.#delayMs, () => void this.#restart());
  }

  /**
   * Once all that the last stream brought has been applied: a new one begins with what is held, and what is not named
   * there the other side would never take back.
   */
  async #restart(): Promise<void> {
    await Promise.all([...this.#types.values()].map(({ queue }) => queue));
    this.start();
  }
}
