// Server side of delta xDS (envoy.service.discovery.v3), transport passed in. A session is one stream; each of its
// types has at most one push under way, the next one (coalesced) goes out when the client has answered: a slow
// client costs no memory. Versions are content hashes, so a client that comes back after a restart of the server
// is sent only what changed meanwhile. Which resources a client may see is decided by a SnapshotOf function.
import { create } from '@bufbuild/protobuf';
import { MeshError } from '../errors.ts';
import { DeltaDiscoveryResponseSchema } from './gen/discovery_pb.ts';
import type { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from './gen/discovery_pb.ts';

/** A resource, serialised once for all clients. */
export interface ServedResource {
  readonly name: string;
  /** Hash of the content. */
  readonly version: string;
  readonly value: Uint8Array;
}

/** All resources of a type that a client may see. */
export interface TypeSnapshot {
  /** Grows with each change; acknowledgements are counted in it. */
  readonly generation: number;
  readonly resources: ReadonlyMap<string, ServedResource>;
  /** Other names of resources (`network/ip`), for clients that ask on demand. */
  lookup?(name: string): readonly string[];
  /** What a client that asks on demand is sent unasked. */
  unasked?(node: ClientNode): readonly string[];
}

/** The node of a client's first request. */
export interface ClientNode {
  readonly id: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Snapshot of a type for a client; undefined when the type is unknown. Throws to end the stream. */
export type SnapshotOf = (typeUrl: string, node: ClientNode) => TypeSnapshot | undefined;

/** State of a type in a session, for debugging pages. */
export interface TypeStatus {
  readonly typeUrl: string;
  readonly isWildcard: boolean;
  readonly resources: number;
  readonly sentGeneration: number;
  readonly ackedGeneration: number;
  readonly isWaiting: boolean;
  readonly lastError: string | undefined;
}

/** What a server reports, for metrics and logs. */
export interface DeltaServerEvents {
  onPush?(typeUrl: string, resources: number, removed: number): void;
  onNack?(node: ClientNode, typeUrl: string, message: string): void;
  onAck?(typeUrl: string): void;
}

/** Options of {@link DeltaServer}. */
export interface DeltaServerOptions {
  readonly snapshotOf: SnapshotOf;
  readonly events?: DeltaServerEvents;
  /** Bounds a message: 5,000 workloads, about 2 MB, by default. */
  readonly resourcesPerPush?: number | undefined;
}

const MAX_TYPES = 16;
const MAX_SUBSCRIBED = 100_000;
const RESOURCES_PER_PUSH = 5000;

interface TypeState {
  readonly typeUrl: string;
  isWildcard: boolean;
  readonly names: Set<string>;
  /** Names asked for and not yet answered; also those that do not exist need an answer. */
  readonly unanswered: Set<string>;
  /** Names asked for within the stream: what they mean is sent also when the client holds it. */
  readonly asked: Set<string>;
  /** Name to version of what the client holds. */
  readonly held: Map<string, string>;
  nonce: string;
  isWaiting: boolean;
  /** The first answer is sent even when it is empty: the client waits for it. */
  needsAnswer: boolean;
  sentGeneration: number;
  ackedGeneration: number;
  lastError: string | undefined;
}

/** One stream. */
export class DeltaSession {
  readonly #server: DeltaServer;
  readonly #options: DeltaServerOptions;
  readonly #send: (response: DeltaDiscoveryResponse) => void;
  readonly #types = new Map<string, TypeState>();
  #node: ClientNode | undefined;
  #nextNonce = 1;

  /** Made by {@link DeltaServer.open}. */
  constructor(
    server: DeltaServer,
    options: DeltaServerOptions,
    send: (response: DeltaDiscoveryResponse) => void,
  ) {
    this.#server = server;
    this.#options = options;
    this.#send = send;
  }

  /** The client, once its first request has come. */
  get node(): ClientNode | undefined {
    return this.#node;
  }

  /** Handles a request; `onNode` is called once. Throws `MeshError` when the stream must end. */
  onRequest(request: DeltaDiscoveryRequest, onNode?: (node: ClientNode) => void): void {
    if (this.#node === undefined) {
      this.#node = nodeOf(request);
      onNode?.(this.#node);
    }
    const known = this.#types.get(request.typeUrl);
    const state = known ?? this.#addType(request);
    const isAnswer = request.responseNonce !== '';
    if (isAnswer) this.#onAnswer(state, request);
    const isChanged = subscribe(state, request, known === undefined);
    if (isAnswer || isChanged || known === undefined) this.push(state.typeUrl);
    this.#server.notify();
  }

  /** Sends what changed in one type or all of them, as far as the client is ready for it. */
  push(typeUrl?: string): void {
    for (const state of this.#types.values()) {
      if (typeUrl === undefined || typeUrl === state.typeUrl) this.#pushType(state);
    }
  }

  /** The generation of a type that the client has confirmed; undefined when it does not subscribe to it. */
  ackedGeneration(typeUrl: string): number | undefined {
    return this.#types.get(typeUrl)?.ackedGeneration;
  }

  status(): TypeStatus[] {
    return [...this.#types.values()].map((state) => ({
      typeUrl: state.typeUrl,
      isWildcard: state.isWildcard,
      resources: state.held.size,
      sentGeneration: state.sentGeneration,
      ackedGeneration: state.ackedGeneration,
      isWaiting: state.isWaiting,
      lastError: state.lastError,
    }));
  }

  /** Forgets the session; call when the stream has ended. */
  close(): void {
    this.#types.clear();
    this.#server.remove(this);
  }

  #addType(request: DeltaDiscoveryRequest): TypeState {
    if (this.#types.size >= MAX_TYPES) {
      throw new MeshError('xds_limit', `more than ${MAX_TYPES} types in one stream`);
    }
    const state: TypeState = {
      typeUrl: request.typeUrl,
      isWildcard: false,
      names: new Set(),
      unanswered: new Set(),
      asked: new Set(),
      held: new Map(Object.entries(request.initialResourceVersions)),
      nonce: '',
      isWaiting: false,
      needsAnswer: true,
      sentGeneration: 0,
      ackedGeneration: 0,
      lastError: undefined,
    };
    this.#types.set(request.typeUrl, state);
    return state;
  }

  #onAnswer(state: TypeState, request: DeltaDiscoveryRequest): void {
    if (request.responseNonce !== state.nonce || !state.isWaiting) return; // of an earlier push
    state.isWaiting = false;
    state.ackedGeneration = state.sentGeneration;
    state.lastError = request.errorDetail?.message;
    if (request.errorDetail === undefined) this.#options.events?.onAck?.(state.typeUrl);
    else if (this.#node !== undefined) {
      this.#options.events?.onNack?.(this.#node, state.typeUrl, request.errorDetail.message);
    }
  }

  #pushType(state: TypeState): void {
    if (state.isWaiting || this.#node === undefined) return;
    const snapshot = this.#options.snapshotOf(state.typeUrl, this.#node);
    const wanted = state.isWildcard ? undefined : wantedNames(state, snapshot, this.#node);
    const limit = this.#options.resourcesPerPush ?? RESOURCES_PER_PUSH;
    const { changed, removed, isComplete } = difference(state, snapshot, wanted, limit);
    const isCurrent = changed.length === 0 && removed.length === 0;
    // A part of a large push does not bring the client to the generation.
    if (isComplete) state.sentGeneration = snapshot?.generation ?? 0;
    if (isCurrent && !state.needsAnswer) {
      state.ackedGeneration = state.sentGeneration;
      return;
    }
    state.needsAnswer = false;
    state.isWaiting = true;
    state.nonce = String(this.#nextNonce++);
    for (const { name, version } of changed) state.held.set(name, version);
    for (const name of removed) state.held.delete(name);
    this.#options.events?.onPush?.(state.typeUrl, changed.length, removed.length);
    this.#send(
      create(DeltaDiscoveryResponseSchema, {
        typeUrl: state.typeUrl,
        nonce: state.nonce,
        systemVersionInfo: String(snapshot?.generation ?? 0),
        removedResources: removed,
        resources: changed.map(({ name, version, value }) => ({
          name,
          version,
          resource: { typeUrl: state.typeUrl, value },
          aliases: [...(wanted?.get(name) ?? [])],
        })),
      }),
    );
  }
}

interface Difference {
  readonly changed: readonly ServedResource[];
  readonly removed: string[];
  readonly isComplete: boolean;
}

/** What the client has to be told: pure, apart from counting questions as answered. */
function difference(
  state: TypeState,
  snapshot: TypeSnapshot | undefined,
  wanted: WantedNames | undefined,
  limit: number,
): Difference {
  const resources = snapshot?.resources ?? new Map<string, ServedResource>();
  const changed: ServedResource[] = [];
  let isComplete = true;
  for (const resource of wanted === undefined
    ? resources.values()
    : pick(resources, wanted.keys())) {
    if (state.held.get(resource.name) === resource.version) continue;
    if (changed.length === limit) {
      isComplete = false;
      break;
    }
    changed.push(resource);
  }
  const removed: string[] = [];
  for (const name of state.held.keys()) {
    if (!resources.has(name) || wanted?.has(name) === false) removed.push(name);
  }
  for (const name of state.unanswered) {
    const exists = resources.has(name) || (snapshot?.lookup?.(name).length ?? 0) > 0;
    if (!exists && !removed.includes(name)) removed.push(name);
  }
  state.unanswered.clear();
  return { changed, removed, isComplete };
}

/** Resources for a client that asks on demand, each with the other names it was asked for by. */
type WantedNames = ReadonlyMap<string, ReadonlySet<string>>;

function wantedNames(
  state: TypeState,
  snapshot: TypeSnapshot | undefined,
  node: ClientNode,
): WantedNames {
  const wanted = new Map<string, Set<string>>();
  const add = (name: string, asked: string): void => {
    const aliases = wanted.get(name) ?? new Set();
    if (name !== asked) aliases.add(asked);
    wanted.set(name, aliases);
    if (state.asked.has(asked)) state.held.delete(name);
  };
  for (const name of state.names) {
    if (snapshot?.resources.has(name) === true) add(name, name);
    for (const other of snapshot?.lookup?.(name) ?? []) add(other, name);
  }
  for (const name of snapshot?.unasked?.(node) ?? []) add(name, name);
  state.asked.clear();
  return wanted;
}

function* pick(
  resources: ReadonlyMap<string, ServedResource>,
  names: Iterable<string>,
): Generator<ServedResource> {
  for (const name of names) {
    const resource = resources.get(name);
    if (resource !== undefined) yield resource;
  }
}

/** Applies the names of a request; true when something changed. */
function subscribe(state: TypeState, request: DeltaDiscoveryRequest, isFirst: boolean): boolean {
  const { resourceNamesSubscribe: added, resourceNamesUnsubscribe: dropped } = request;
  // The legacy form of a wildcard: a first request that names nothing.
  if (isFirst && added.length === 0 && dropped.length === 0) state.isWildcard = true;
  if (state.names.size + added.length > MAX_SUBSCRIBED) {
    throw new MeshError('xds_limit', `more than ${MAX_SUBSCRIBED} names subscribed`);
  }
  for (const name of added) {
    if (name === '*') state.isWildcard = true;
    else {
      state.names.add(name);
      state.unanswered.add(name);
      // Asking again for a held name means that the client lost it.
      if (!isFirst) {
        state.held.delete(name);
        state.asked.add(name);
      }
    }
  }
  for (const name of dropped) {
    if (name === '*') state.isWildcard = false;
    else {
      state.names.delete(name);
      state.unanswered.delete(name);
      state.asked.delete(name);
      if (!state.isWildcard) state.held.delete(name);
    }
  }
  // Istio's ztunnel does not repeat its questions on a new stream: what it holds is what it wants.
  if (isFirst && !state.isWildcard) for (const name of state.held.keys()) state.names.add(name);
  if (state.unanswered.size > 0) state.needsAnswer = true;
  return added.length > 0 || dropped.length > 0;
}

function nodeOf(request: DeltaDiscoveryRequest): ClientNode {
  const { node } = request;
  if (node === undefined) throw new MeshError('xds_node', 'the first request names no node');
  return { id: node.id, metadata: node.metadata ?? {} };
}

/** Serves sessions from one set of snapshots. */
export class DeltaServer {
  readonly #options: DeltaServerOptions;
  readonly #sessions = new Set<DeltaSession>();
  /** Re-checked after every answer and every end of a session. */
  readonly #waiters = new Set<() => void>();

  constructor(options: DeltaServerOptions) {
    this.#options = options;
  }

  get sessions(): ReadonlySet<DeltaSession> {
    return this.#sessions;
  }

  /** Begins a session for a new stream. */
  open(send: (response: DeltaDiscoveryResponse) => void): DeltaSession {
    const session = new DeltaSession(this, this.#options, send);
    this.#sessions.add(session);
    return session;
  }

  /** Sends what changed to every client; call after the snapshots have changed. */
  publish(): void {
    for (const session of this.#sessions) session.push();
    this.notify();
  }

  /** True when every client that subscribes to the type has confirmed the generation. */
  isAcked(typeUrl: string, generation: number): boolean {
    for (const session of this.#sessions) {
      const acked = session.ackedGeneration(typeUrl);
      if (acked !== undefined && acked < generation) return false;
    }
    return true;
  }

  /** Resolves true when all have confirmed, false when the signal aborts first. */
  whenAcked(typeUrl: string, generation: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const finish = (isAcked: boolean): void => {
        this.#waiters.delete(check);
        signal.removeEventListener('abort', onAbort);
        resolve(isAcked);
      };
      const onAbort = (): void => finish(false);
      const check = (): void => {
        if (this.isAcked(typeUrl, generation)) finish(true);
      };
      this.#waiters.add(check);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) finish(false);
      else check();
    });
  }

  /** Called by sessions when a client has answered. */
  notify(): void {
    for (const check of [...this.#waiters]) check();
  }

  /** Called by sessions when they end. */
  remove(session: DeltaSession): void {
    this.#sessions.delete(session);
    this.notify();
  }
}
