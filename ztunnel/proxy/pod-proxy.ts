// The proxy of one pod: listeners in the pod's network namespace, its tunnels, its connections.
import { verifyTrustDomain } from '../../common/hbone/peer-identity.ts';
import { rejectionReason } from '../../common/hbone/rejection.ts';
import { HboneServer } from '../../common/hbone/tunnel-server.ts';
import type { TunnelRequest } from '../../common/hbone/types.ts';
import { MeshError, errorMessage } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { TcpListener } from '../../engine/reactor/tcp-listener.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { SocketAddress } from '../../engine/reactor/socket-address.ts';
import {
  HBONE_PORT,
  OUTBOUND_PORT,
  PLAINTEXT_PORT,
  closePodSockets,
  type PodSocket,
} from '../inpod/pod-sockets.ts';
import type { PodDump } from '../messages.ts';
import { ConnectionManager } from './connection-manager.ts';
import { serveInbound } from './inbound.ts';
import { sessionOptions } from './http2-options.ts';
import { LocalWorkload } from './local-workload.ts';
import { serveOutbound } from './outbound.ts';
import { servePassthrough } from './passthrough.ts';
import { PodTunnels } from './pod-tunnels.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { FailureReason } from './reasons.ts';
import type { IdentityContexts } from '../identity/certificate-store.ts';

/** Tunnels hear of a drain this long before the server stops taking new ones; a little more than the engine's notice. */
const DRAIN_NOTICE_MS = 1500;
const DRAIN_CHECK_MS = 50;

/** What a pod comes with; all of it is taken over. */
export interface PodHandles {
  readonly netns: Netns;
  readonly sockets: readonly PodSocket[];
}

/** One pod's listeners and connections. */
export class PodProxy {
  readonly uid: string;
  readonly local: LocalWorkload;
  readonly netns: Netns;
  readonly connections = new ConnectionManager();
  readonly tunnels: PodTunnels;
  readonly #context: ProxyContext;
  readonly #server: HboneServer;
  readonly #listeners: TcpListener[] = [];
  /** Accepted and not yet registered, refused or handed to the tunnel server. */
  #setUps = 0;
  #isClosed = false;

  private constructor(context: ProxyContext, uid: string, pod: PodInfo, netns: Netns) {
    this.#context = context;
    this.uid = uid;
    this.netns = netns;
    this.local = new LocalWorkload(context.store, context.reactor, pod);
    this.tunnels = new PodTunnels(context, netns);
    this.#server = new HboneServer({
      context: () => this.#contexts()?.server,
      verifyPeer: (uriSans) => verifyTrustDomain(this.#contexts()?.trustDomain ?? '', uriSans),
      onRequest: (request) => this.#onRequest(request),
      onRejected: (reason, peer) => {
        this.#onRejected(peer, rejectionReason(reason), reason.detail);
      },
      session: sessionOptions(context.config, true),
    });
  }

  /** Accepts on the pod's sockets. Throws when one is missing, with everything closed. */
  static open(
    context: ProxyContext,
    uid: string,
    pod: PodInfo,
    { netns, sockets }: PodHandles,
  ): PodProxy {
    const proxy = new PodProxy(context, uid, pod, netns);
    const servers = new Map<number, (stream: TcpStream) => Promise<void>>([
      [OUTBOUND_PORT, (stream) => serveOutbound(context, proxy, stream)],
      [PLAINTEXT_PORT, (stream) => servePassthrough(context, proxy, stream)],
      [HBONE_PORT, (stream) => proxy.#acceptTunnels(stream)],
    ]);
    for (const socket of sockets) {
      const serve = servers.get(socket.port);
      if (serve === undefined) closePodSockets([socket]);
      else proxy.#listen(socket, serve);
    }
    if (proxy.#listeners.length < servers.size) {
      proxy.close('pod_removed', 'sockets are missing');
      throw new MeshError('internal', `only ${sockets.length} sockets for ${uid}`);
    }
    return proxy;
  }

  /** Policies have changed: end what they no longer allow. */
  reevaluate(): void {
    const workload = this.local.current;
    if (workload === undefined) return;
    for (const connection of this.connections.inbound()) {
      if (connection.facts === undefined) continue;
      const verdict = this.#context.gate.check(workload, connection.facts);
      if (verdict.isAllowed) continue;
      const detail = `connection closed due to policy change: ${verdict.reason}`;
      connection.abort('policy_changed', detail, { policy: verdict.policy, rule: verdict.rule });
    }
  }

  /** Workloads with these uids have changed. */
  stateChanged(uids: ReadonlySet<string>): void {
    this.local.notify();
    this.tunnels.retireStale();
    const { current } = this.local;
    if (current !== undefined && uids.has(current.uid)) this.reevaluate();
  }

  dump(): PodDump {
    return {
      uid: this.uid,
      pod: this.local.pod,
      inbound: this.connections.dumps('inbound'),
      outbound: this.connections.dumps('outbound'),
    };
  }

  /** Connections and what is being set up: what a drain waits for. */
  get activeCount(): number {
    return Math.max(this.connections.size, this.#setUps);
  }

  /**
   * Graceful: no new connections; resolves when the last has ended. When a successor has the same sockets, what waits
   * in their backlogs is its own; else it is served here.
   */
  async drain(isReplaced: boolean): Promise<void> {
    if (!isReplaced) for (const listener of this.#listeners) listener.drainBacklog();
    this.#closeListeners();
    this.#server.drain();
    const noticeEnd = this.#context.reactor.now() + DRAIN_NOTICE_MS;
    while (!this.#isDrained(noticeEnd)) {
      await new Promise<void>((resolve) => {
        this.#context.reactor.after(DRAIN_CHECK_MS, resolve);
      });
    }
  }

  /** A client may not have heard that its tunnels end: what it asks for meanwhile is served. */
  #isDrained(noticeEnd: number): boolean {
    if (this.#isClosed) return true;
    if (this.activeCount > 0) return false;
    return !this.#server.isActive || this.#context.reactor.now() >= noticeEnd;
  }

  /** Now: listeners, connections, tunnels. */
  close(reason: FailureReason, detail: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeListeners();
    this.local.close();
    this.connections.abortAll(reason, detail);
    this.#server.close(detail);
    this.tunnels.close(detail);
    this.netns.close();
  }

  #listen({ port, fd }: PodSocket, serve: (stream: TcpStream) => Promise<void>): void {
    const { reactor, logger } = this.#context;
    const listener = new TcpListener(reactor, fd, (stream) => {
      this.#setUps++;
      serve(stream)
        .catch((err: unknown) => {
          const text = err instanceof Error ? err.stack : String(err);
          logger.error({ port, err: text }, 'connection failed unexpectedly');
          stream.reset();
        })
        .finally(() => this.#setUps--);
    });
    this.#listeners.push(listener);
  }

  #closeListeners(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
  }

  /** The pod's TLS contexts, if they are here. */
  #contexts(): IdentityContexts | undefined {
    const workload = this.local.current;
    return workload && this.#context.certificates.current(workloadIdentity(workload));
  }

  async #acceptTunnels(stream: TcpStream): Promise<void> {
    // A peer may come before our certificate: it waits, rather than being refused.
    if (this.#contexts() === undefined) {
      const { peer } = stream;
      const problem = await this.#awaitContexts();
      if (problem !== undefined) {
        this.#onRejected(peer, 'certificate_unavailable', problem);
        stream.reset();
        return;
      }
    }
    this.#server.accept(stream);
  }

  /** Resolves when the certificate is here, or with the reason why it is not. */
  async #awaitContexts(): Promise<string | undefined> {
    const workload = this.local.current ?? (await this.local.wait());
    if (workload === undefined) return 'no workload for this pod';
    return this.#context.certificates.get(workloadIdentity(workload)).then(
      () => undefined,
      (err: unknown) => errorMessage(err),
    );
  }

  #onRequest(request: TunnelRequest): void {
    serveInbound(this.#context, this, request).catch((err: unknown) => {
      const text = err instanceof Error ? err.stack : String(err);
      this.#context.logger.error({ err: text }, 'tunnel request failed unexpectedly');
    });
  }

  #onRejected(peer: SocketAddress, reason: FailureReason, detail: string): void {
    const workload = this.local.current;
    this.#context.recorder.refuse(
      {
        direction: 'inbound',
        source: undefined,
        sourceBaggage: undefined,
        sourceIdentity: undefined,
        destination: workload,
        destinationIdentity: undefined,
        service: undefined,
      },
      {
        src: joinHostPort(peer.address, peer.port),
        dst: joinHostPort(workload?.ips[0] ?? '', HBONE_PORT),
      },
      reason,
      detail,
    );
  }
}
