// The container's first process: keeps the pods' sockets while proxy processes come and go, starts them, starts them
// again when they die, and replaces one by another. It knows no mesh: no ZDS, no xDS, no certificates. It loads little,
// since it runs beside the proxy for ever. See docs/design/restarts.md.
import { spawn, type ChildProcess } from 'node:child_process';
import { constants as os } from 'node:os';
import { systemClock, type Timer } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { releaseAfterStart } from '../../engine/reactor/program-pages.ts';
import { seqpacketPair, type SeqpacketSocket } from '../../engine/reactor/seqpacket.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import { Fleet, type FleetAction } from './fleet.ts';
import {
  LIST_UIDS,
  decodeRequest,
  encodePacket,
  type HolderMessage,
  type HolderRequest,
} from './messages.ts';
import { SocketStore } from './socket-store.ts';

/** A proxy that replaces another has this long to become ready. */
const REPLACEMENT_LIMIT_MS = 120_000;
/** The number under which a proxy finds its socket: the first after standard error. */
const CHILD_FD = 3;

/** How proxies are started. */
export interface HolderOptions {
  /** Script and command. */
  readonly argv: readonly string[];
  /** Options for Node. */
  readonly nodeArgs: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: (level: 'info' | 'warn', fields: object, message: string) => void;
  /** The container's end. */
  readonly exit: (code: number) => void;
}

interface RunningProxy {
  readonly id: number;
  readonly process: ChildProcess;
  readonly socket: SeqpacketSocket;
  readonly startedMs: number;
}

/** Runs the fleet. */
export class Holder {
  readonly #options: HolderOptions;
  readonly #fleet = new Fleet();
  readonly #store = new SocketStore(closeDescriptor);
  readonly #proxies = new Map<number, RunningProxy>();
  #pendingStart: Timer | undefined;
  #lastId = 0;

  constructor(options: HolderOptions) {
    this.#options = options;
  }

  /** Starts the first proxy. */
  start(): void {
    this.#act(this.#fleet.begin());
  }

  /** SIGTERM: all proxies drain, then the container ends. */
  stop(): void {
    this.#options.log('info', { pods: this.#store.size }, 'stopping');
    this.#pendingStart?.cancel();
    this.#act(this.#fleet.stop());
  }

  /** Ends everything at once. */
  kill(): void {
    this.#act(this.#fleet.kill());
    this.#options.exit(0);
  }

  /** Starts a successor; the serving proxy drains when that is ready. False when it cannot be now. */
  replace(): boolean {
    const actions = this.#fleet.replace();
    const isPossible = actions.length > 0;
    if (!isPossible) this.#options.log('warn', {}, 'no successor: one starts, or too many drain');
    this.#act(actions);
    return isPossible;
  }

  #act(actions: readonly FleetAction[]): void {
    for (const action of actions) {
      switch (action.kind) {
        case 'start':
          this.#startLater(action.delayMs, action.isReplacement);
          break;
        case 'drain':
          this.#tell(action.id, { kind: 'drain', isReplaced: action.isReplaced });
          break;
        case 'kill':
          this.#proxies.get(action.id)?.process.kill('SIGKILL');
          break;
        case 'releaseSockets':
          this.#store.releaseAll();
          break;
        case 'exit':
          this.#options.exit(action.code);
          break;
      }
    }
  }

  #startLater(delayMs: number, isReplacement: boolean): void {
    if (delayMs === 0) {
      this.#start(isReplacement);
      return;
    }
    this.#options.log('warn', { delayMs }, 'proxy is started again after a pause');
    this.#pendingStart = systemClock.after(delayMs, () => this.#start(isReplacement));
  }

  #start(isReplacement: boolean): void {
    const id = ++this.#lastId;
    this.#fleet.started(id);
    let spawned: { readonly child: ChildProcess; readonly socket: SeqpacketSocket };
    try {
      spawned = this.#spawn();
    } catch (err) {
      // No descriptors or no memory: tried again as if it had died, and nobody else is to suffer for it.
      this.#options.log('warn', { err: errorMessage(err) }, 'proxy cannot be started');
      this.#act(this.#fleet.exited(id, { code: 1, ranMs: 0 }));
      return;
    }
    const { log } = this.#options;
    const { child, socket } = spawned;
    const proxy = { id, process: child, socket, startedMs: systemClock.now() };
    this.#proxies.set(id, proxy);
    log('info', { process: child.pid, isReplacement }, 'proxy started');
    child.once('error', (err) => this.#onExit(proxy, 1, errorMessage(err)));
    child.once('exit', (code, signal) => {
      this.#onExit(proxy, code ?? 128 + os.signals[signal ?? 'SIGKILL'], signal ?? undefined);
    });
    this.#tell(id, { kind: 'welcome', isReplacement, crashes: this.#fleet.crashCount });
    this.#serve(proxy).catch((err: unknown) => {
      log('warn', { process: child.pid, err: errorMessage(err) }, 'proxy broke the protocol');
      child.kill('SIGKILL');
    });
    if (!isReplacement) return;
    const limit = systemClock.after(REPLACEMENT_LIMIT_MS, () => {
      this.#act(this.#fleet.replacementTimedOut(id));
    });
    child.once('exit', () => limit.cancel());
  }

  #spawn(): { readonly child: ChildProcess; readonly socket: SeqpacketSocket } {
    const { argv, nodeArgs, env } = this.#options;
    const { socket, peerFd } = seqpacketPair();
    try {
      const child = spawn(process.execPath, [...process.execArgv, ...nodeArgs, ...argv], {
        stdio: ['ignore', 'inherit', 'inherit', peerFd],
        env: { ...env, HOLDER_FD: String(CHILD_FD) },
      });
      return { child, socket };
    } catch (err) {
      socket.close();
      throw err;
    } finally {
      closeDescriptor(peerFd);
    }
  }

  #onExit(proxy: RunningProxy, code: number, cause: string | undefined): void {
    if (!this.#proxies.delete(proxy.id)) return;
    proxy.socket.close();
    const phase = this.#fleet.phase(proxy.id);
    const fields = { process: proxy.process.pid, phase, code, cause };
    const isExpected = phase === 'draining' && code === 0;
    this.#options.log(isExpected ? 'info' : 'warn', fields, 'proxy ended');
    this.#passOn({ kind: 'draining', process: proxy.process.pid ?? 0, pods: [], isLast: true });
    this.#act(this.#fleet.exited(proxy.id, { code, ranMs: systemClock.now() - proxy.startedMs }));
  }

  async #serve(proxy: RunningProxy): Promise<void> {
    for (;;) {
      const packet = await proxy.socket.receive();
      if (packet === undefined) return;
      const request = decodeRequest(packet.data);
      if (request.kind !== 'keep') packet.fds.forEach(closeDescriptor);
      this.#answer(proxy, request, packet.fds);
    }
  }

  #answer(proxy: RunningProxy, request: HolderRequest, fds: readonly number[]): void {
    switch (request.kind) {
      case 'list':
        this.#tell(proxy.id, {
          kind: 'answer',
          uids: this.#store.uids(request.after, LIST_UIDS),
        });
        return;
      case 'take': {
        const stored = this.#store.get(request.uid);
        if (stored === undefined) this.#tell(proxy.id, { kind: 'answer' });
        else this.#tell(proxy.id, { kind: 'answer', held: stored.held }, stored.fds);
        return;
      }
      case 'keep': {
        const isKept = this.#keep(request, fds);
        this.#tell(proxy.id, isKept ? { kind: 'answer' } : { kind: 'answer', error: 'not kept' });
        return;
      }
      case 'release':
        this.#store.release(request.uid);
        this.#tell(proxy.id, { kind: 'answer' });
        for (const id of this.#fleet.ids('draining')) {
          this.#tell(id, { kind: 'gone', uid: request.uid });
        }
        return;
      case 'report':
        this.#tell(proxy.id, { kind: 'answer' });
        this.#passOn({
          kind: 'draining',
          process: proxy.process.pid ?? 0,
          pods: request.pods,
          isLast: request.isLast,
        });
        return;
      case 'ready':
        this.#tell(proxy.id, { kind: 'answer' });
        this.#options.log('info', { process: proxy.process.pid }, 'proxy is ready');
        this.#act(this.#fleet.ready(proxy.id));
        releaseAfterStart();
        return;
      case 'replace': {
        const isPossible = this.replace();
        this.#tell(proxy.id, isPossible ? { kind: 'answer' } : { kind: 'answer', error: 'busy' });
        return;
      }
      case 'quit':
        this.#tell(proxy.id, { kind: 'answer' });
        this.stop();
        return;
    }
  }

  /** Sockets that come while everything ends are for nobody. */
  #keep({ held }: Extract<HolderRequest, { kind: 'keep' }>, fds: readonly number[]): boolean {
    if (!this.#fleet.isStopping) return this.#store.keep(held, fds);
    fds.forEach(closeDescriptor);
    return true;
  }

  /** Tells the serving proxy, which has the metrics endpoint. */
  #passOn(message: HolderMessage): void {
    for (const id of this.#fleet.ids('serving')) this.#tell(id, message);
  }

  #tell(id: number, message: HolderMessage, fds: readonly number[] = []): void {
    const proxy = this.#proxies.get(id);
    if (proxy === undefined) return;
    try {
      proxy.socket.send(encodePacket(message), fds);
    } catch (err) {
      // It is ending, or has stopped reading; then readiness fails, and an operator sees the line.
      const fields = { process: proxy.process.pid, kind: message.kind, err: errorMessage(err) };
      this.#options.log('warn', fields, 'proxy not told');
    }
  }
}
