// The proxy's side of the holder: asks for the sockets it keeps, gives it new ones, hears when to drain.
import { MeshError, errorMessage } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { SeqpacketSocket } from '../../engine/reactor/seqpacket.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import {
  REPORT_PODS,
  decodeMessage,
  encodePacket,
  type HeldPod,
  type HolderMessage,
  type HolderRequest,
  type PodConnections,
} from './messages.ts';

type Answer = Extract<HolderMessage, { kind: 'answer' }>;
type Welcome = Extract<HolderMessage, { kind: 'welcome' }>;

/** What the holder says unasked. */
export interface HolderEvents {
  readonly onDrain: (isReplaced: boolean) => void;
  readonly onGone: (uid: string) => void;
  readonly onDraining: (process: number, pods: readonly PodConnections[]) => void;
  /** The holder has died. A proxy without it has nobody to end it. */
  readonly onLost: (reason: string) => void;
}

/** Copies of a held pod's descriptors, by name; the taker closes them. */
export interface TakenPod {
  readonly netnsId: string;
  readonly pod: PodInfo;
  readonly fds: ReadonlyMap<string, number>;
}

/** One connection, for the life of the proxy. */
export class HolderClient {
  readonly welcome: Welcome;
  readonly #socket: SeqpacketSocket;
  readonly #events: HolderEvents;
  #queue: Promise<unknown> = Promise.resolve();
  #waiting: ((answer: Answer | undefined, fds: readonly number[]) => void) | undefined;
  readonly #reports = new Map<number, PodConnections[]>();

  private constructor(socket: SeqpacketSocket, welcome: Welcome, events: HolderEvents) {
    this.#socket = socket;
    this.welcome = welcome;
    this.#events = events;
  }

  /** Takes over the inherited descriptor and waits for the first packet. */
  static async open(fd: number, events: HolderEvents): Promise<HolderClient> {
    const socket = new SeqpacketSocket(fd);
    const packet = await socket.receive();
    const welcome = packet && decodeMessage(packet.data);
    if (welcome?.kind !== 'welcome') throw new MeshError('holder_protocol', 'holder has gone');
    const client = new HolderClient(socket, welcome, events);
    client.#read().then(
      () => events.onLost('connection ended'),
      (err: unknown) => events.onLost(errorMessage(err)),
    );
    return client;
  }

  /** Uids of all held pods. */
  async list(): Promise<string[]> {
    const all: string[] = [];
    for (;;) {
      const { answer } = await this.#ask({ kind: 'list', after: all.at(-1) ?? '' });
      const { uids = [] } = answer;
      if (uids.length === 0) return all;
      all.push(...uids);
    }
  }

  /** Copies of what is held for a pod; undefined when nothing is. */
  async take(uid: string): Promise<TakenPod | undefined> {
    const { answer, fds } = await this.#ask({ kind: 'take', uid });
    const { held } = answer;
    if (held === undefined) return undefined;
    if (held.names.length !== fds.length) {
      fds.forEach(closeDescriptor);
      throw new MeshError('holder_protocol', `${fds.length} descriptors for ${uid}`);
    }
    const named = held.names.map((name, at): [string, number] => [name, fds[at] ?? -1]);
    return { netnsId: held.netnsId, pod: held.pod, fds: new Map(named) };
  }

  /** Lets the holder keep copies; false when it has this pod already, and those must be taken instead. */
  async keep(held: HeldPod, fds: readonly number[]): Promise<boolean> {
    const { answer } = await this.#ask({ kind: 'keep', held }, fds);
    return answer.error === undefined;
  }

  async release(uid: string): Promise<void> {
    await this.#ask({ kind: 'release', uid });
  }

  /** This proxy serves. */
  async ready(): Promise<void> {
    await this.#ask({ kind: 'ready' });
  }

  /** Reports what is left while draining. */
  async report(pods: readonly PodConnections[]): Promise<void> {
    for (let at = 0; at === 0 || at < pods.length; at += REPORT_PODS) {
      const isLast = at + REPORT_PODS >= pods.length;
      await this.#ask({ kind: 'report', pods: pods.slice(at, at + REPORT_PODS), isLast });
    }
  }

  /** Asks for a successor; false when one is being started already, or too many old ones drain. */
  async replace(): Promise<boolean> {
    const { answer } = await this.#ask({ kind: 'replace' });
    return answer.error === undefined;
  }

  /** Asks to end the container. */
  async quit(): Promise<void> {
    await this.#ask({ kind: 'quit' });
  }

  #ask(
    request: HolderRequest,
    sent: readonly number[] = [],
  ): Promise<{ readonly answer: Answer; readonly fds: readonly number[] }> {
    const result = this.#queue.then(
      () =>
        new Promise<{ answer: Answer; fds: readonly number[] }>((resolve, reject) => {
          this.#waiting = (answer, fds) => {
            if (answer === undefined) reject(new MeshError('holder_gone', 'the holder has ended'));
            else resolve({ answer, fds });
          };
          this.#socket.send(encodePacket(request), sent);
        }),
    );
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const packet = await this.#socket.receive();
        if (packet === undefined) return;
        this.#dispatch(decodeMessage(packet.data), packet.fds);
      }
    } finally {
      this.#socket.close();
      this.#settle(undefined, []);
    }
  }

  #dispatch(message: HolderMessage, fds: readonly number[]): void {
    if (message.kind !== 'answer') fds.forEach(closeDescriptor);
    switch (message.kind) {
      case 'answer':
        this.#settle(message, fds);
        return;
      case 'drain':
        this.#events.onDrain(message.isReplaced);
        return;
      case 'gone':
        this.#events.onGone(message.uid);
        return;
      case 'draining': {
        // One that has ended may have been in the middle of a report.
        const before = message.pods.length === 0 ? [] : (this.#reports.get(message.process) ?? []);
        const pods = [...before, ...message.pods];
        this.#reports.set(message.process, pods);
        if (!message.isLast) return;
        this.#reports.delete(message.process);
        this.#events.onDraining(message.process, pods);
        return;
      }
      case 'welcome':
        return;
    }
  }

  #settle(answer: Answer | undefined, fds: readonly number[]): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) fds.forEach(closeDescriptor);
    else waiting(answer, fds);
  }
}
