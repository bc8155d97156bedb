// The node proxy's side of ZDS as a state machine without I/O: packets in, pod changes and
// acknowledgements out. Running pods survive a lost session; a new session begins with a full snapshot.
import { decodeRequest, encodeAck } from '../../common/zds/codec.ts';
import type { PodInfo, ZdsRequest } from '../../common/zds/codec.ts';
import { MeshError, errorMessage } from '../../common/errors.ts';

/** A namespace handle with its identity; equal namespaces have equal ids. */
export interface NetnsHandle {
  readonly id: string;
  close(): void;
}

/** What the session does to pods. Both reject with the reason for the agent. */
export interface PodActions<Handle extends NetnsHandle> {
  /** Opens the pod's listeners. The handle belongs to the callee's caller until it resolves. */
  start(uid: string, pod: PodInfo, netns: Handle): Promise<void>;
  /** Closes listeners and connections now. */
  stop(uid: string): Promise<void>;
}

interface PodEntry<Handle> {
  readonly pod: PodInfo;
  readonly netns: Handle;
  isUp: boolean;
}

/** A pod's state for the admin dump. */
export interface PodState {
  readonly uid: string;
  readonly pod: PodInfo;
  readonly state: 'Up' | 'Pending';
}

/** All pods of the node, across sessions. */
export class PodRegistry<Handle extends NetnsHandle> {
  readonly #actions: PodActions<Handle>;
  readonly #pods = new Map<string, PodEntry<Handle>>();
  /** Uids named by the running session's snapshot; undefined after it. */
  #snapshot: Set<string> | undefined = new Set();
  /** What starts and stops pods, one after another: a retry must not meet the removal of its pod. */
  #turns: Promise<unknown> = Promise.resolve();
  startedCount = 0;
  stoppedCount = 0;

  constructor(actions: PodActions<Handle>) {
    this.#actions = actions;
  }

  /** Ready: a snapshot was received in this session and every pod is up. */
  get isReady(): boolean {
    return this.hasSnapshot && this.pendingCount === 0;
  }

  /** The running session has named all pods. */
  get hasSnapshot(): boolean {
    return this.#snapshot === undefined;
  }

  get pendingCount(): number {
    return [...this.#pods.values()].filter(({ isUp }) => !isUp).length;
  }

  get activeCount(): number {
    return this.#pods.size - this.pendingCount;
  }

  states(): PodState[] {
    return [...this.#pods].map(([uid, { pod, isUp }]) => ({
      uid,
      pod,
      state: isUp ? 'Up' : 'Pending',
    }));
  }

  /** Whether something holds for the namespaces of all pods. */
  isEvery(check: (netns: Handle) => boolean): boolean {
    return [...this.#pods.values()].every(({ netns }) => check(netns));
  }

  /** A session began. */
  beginSession(): void {
    this.#snapshot = new Set();
  }

  /** Handles one packet and returns the acknowledgement. Throws `MeshError('zds_protocol')`, whose text is for the agent. */
  async handle(packet: Uint8Array, handles: readonly Handle[]): Promise<Uint8Array> {
    let request: ZdsRequest;
    try {
      request = decodeRequest(packet);
      checkHandles(request, handles.length);
    } catch (err) {
      for (const handle of handles) handle.close();
      throw protocolError(`failure to read message : ${errorMessage(err)}`, err);
    }
    return this.#inTurn(() => this.#answer(request, handles)).catch((err: unknown) => {
      throw protocolError(`failure to process message : ${errorMessage(err)}`, err);
    });
  }

  async #answer(request: ZdsRequest, handles: readonly Handle[]): Promise<Uint8Array> {
    switch (request.kind) {
      case 'add': {
        const [netns] = handles;
        return netns === undefined ? encodeAck() : this.#answerAdd(request.uid, request.pod, netns);
      }
      case 'keep':
        if (this.#snapshot === undefined) throw protocolError('keep after the snapshot');
        this.#snapshot.add(request.uid);
        return encodeAck();
      case 'del':
        this.#snapshot?.delete(request.uid);
        // During the snapshot a running pod is dropped by the reconcile at its end.
        if (this.#snapshot === undefined || this.#pods.get(request.uid)?.isUp === false) {
          await this.#remove(request.uid);
        }
        return encodeAck();
      case 'snapshotSent':
        await this.#reconcile();
        return encodeAck();
    }
  }

  /** A pod that a proxy before this one served; the next snapshot confirms or removes it. Never rejects. */
  async restore(uid: string, pod: PodInfo, netns: Handle): Promise<void> {
    const entry = { pod, netns, isUp: false };
    this.#pods.set(uid, entry);
    await this.#inTurn(() => this.#start(uid, entry)).catch(() => undefined);
  }

  /** Serves this pod and no other, as a snapshot that names only it. Rejects when it cannot be started. */
  async serveOnly(uid: string, pod: PodInfo, netns: Handle): Promise<void> {
    this.beginSession();
    await this.#inTurn(async () => {
      await this.#add(uid, pod, netns);
      await this.#reconcile();
    });
  }

  /** Tries pods again whose start failed. */
  async retryPending(): Promise<void> {
    for (const [uid, entry] of [...this.#pods]) {
      if (entry.isUp) continue;
      await this.#inTurn(async () => {
        const isWaiting = this.#pods.get(uid) === entry && !entry.isUp;
        if (isWaiting) await this.#start(uid, entry);
      }).catch(() => undefined);
    }
  }

  /** Stops all pods, at shutdown. */
  async closeAll(): Promise<void> {
    await this.#inTurn(async () => {
      for (const uid of [...this.#pods.keys()]) await this.#remove(uid);
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turns.then(work);
    this.#turns = result.catch(() => undefined);
    return result;
  }

  async #answerAdd(uid: string, pod: PodInfo, netns: Handle): Promise<Uint8Array> {
    try {
      await this.#add(uid, pod, netns);
    } catch (err) {
      return encodeAck(`failure to start proxy : ${errorMessage(err)}`);
    }
    return encodeAck();
  }

  async #add(uid: string, pod: PodInfo, netns: Handle): Promise<void> {
    this.#snapshot?.add(uid);
    const known = this.#pods.get(uid);
    if (known?.isUp === true && known.netns.id === netns.id) {
      netns.close();
      return;
    }
    // Another namespace under the same uid is a pod that was recreated: the old proxy serves nobody.
    if (known !== undefined) await this.#remove(uid);
    const entry = { pod, netns, isUp: false };
    this.#pods.set(uid, entry);
    await this.#start(uid, entry);
  }

  async #start(uid: string, entry: PodEntry<Handle>): Promise<void> {
    await this.#actions.start(uid, entry.pod, entry.netns);
    entry.isUp = true;
    this.startedCount++;
  }

  async #remove(uid: string): Promise<void> {
    const entry = this.#pods.get(uid);
    if (entry === undefined) return;
    this.#pods.delete(uid);
    try {
      if (entry.isUp) await this.#actions.stop(uid);
    } finally {
      if (entry.isUp) this.stoppedCount++;
      entry.netns.close();
    }
  }

  async #reconcile(): Promise<void> {
    const named = this.#snapshot;
    if (named === undefined) throw protocolError('second snapshot');
    this.#snapshot = undefined;
    for (const uid of [...this.#pods.keys()]) {
      if (!named.has(uid)) await this.#remove(uid);
    }
  }
}

function checkHandles(request: ZdsRequest, count: number): void {
  const wanted = request.kind === 'add' ? 1 : 0;
  if (count !== wanted) throw protocolError(`${request.kind} with ${count} descriptors`);
}

function protocolError(detail: string, cause?: unknown): MeshError {
  return new MeshError('zds_protocol', detail, { cause });
}
