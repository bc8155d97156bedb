// The proxy of one pod: listeners in the pod's network namespace, its tunnels, its connections.
import { verifyTrustDomain } from '../../common/hbone/peer-identity.ts';
import { rejectionReason } from '../../common/hbone/rejection.ts';
import { HboneServer } from '../../common/hbone/tunnel-server.ts';
import type { TunnelRequest } from '../../common/hbone/types.ts';
import { MeshError, errorMessage } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { TcpListener } from '../../engine/reactor/tcp-listener.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { SocketAddress } from '../../engine/reactor/socket-address.ts';
import {
  HBONE_PORT,
  OUTBOUND_PORT,
  PLAINTEXT_PORT,
  SOCKS5_PORT,
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
import { serveSocks5 } from './socks5.ts';
import { PacedListeners } from './paced-listeners.ts';
import type { PodShare } from './pod-share.ts';
import { PodTunnels } from './pod-tunnels.ts';
import type { PodLoad } from './connection-report.ts';
import { TurnQueue } from './turn-queue.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { FailureReason } from './reasons.ts';
import type { IdentityContexts } from '../identity/certificate-store.ts';

/** Tunnels hear of a drain this long before the server stops taking new ones; a little more than the engine's notice. */
const DRAIN_NOTICE_MS = 1500;
const DRAIN_CHECK_MS = 50;

/**
 * New connections of one pod in one turn of the reactor, by listener, and requests over tunnels: what the other pods of
 * the node have to wait for. A turn costs some microseconds, a connection some hundred.
 */
const NEW_PER_TURN = 4;
/** A handshake costs more than a millisecond. */
const HANDSHAKES_PER_TURN = 2;
/** Requests over tunnels that wait for their turn. */
const MAX_WAITING = 4096;

/** What a pod comes with; all of it is taken over. */
export interface PodHandles {
  readonly netns: Netns;
  readonly sockets: readonly PodSocket[];
  /** Undefined: this is the only data thread. */
  readonly share: PodShare | undefined;
  /** It is the proxy's own pod, with this identity, whatever its record says: nothing but tunnels comes to it. */
  readonly ownIdentity?: string | undefined;
}

/** Outside of pods nothing is redirected: neither mark nor source would come back. */
function plainly(context: ProxyContext): ProxyContext {
  const config = { ...context.config, isSourcePreserved: false, packetMark: undefined };
  return { ...context, config };
}

const UNKNOWN_PEER = {
  source: undefined,
  sourceBaggage: undefined,
  sourceIdentity: undefined,
  destination: undefined,
  destinationIdentity: undefined,
  service: undefined,
};
/** Which side of a connection the pod is. */
const SIDE = { inbound: 'destination', outbound: 'source' } as const;

/** One pod's listeners and connections. */
export class PodProxy {
  readonly uid: string;
  readonly local: LocalWorkload;
  readonly netns: Netns;
  readonly connections: ConnectionManager;
  readonly tunnels: PodTunnels;
  readonly #context: ProxyContext;
  readonly #server: HboneServer;
  readonly #listeners: TcpListener[] = [];
  /** Of what is not a tunnel of another proxy: that one holds its own pods. */
  readonly #pacedListeners: TcpListener[] = [];
  readonly pace: PacedListeners;
  readonly #requests: TurnQueue<TunnelRequest>;
  readonly #share: PodShare | undefined;
  readonly #ownIdentity: string | undefined;
  /** Refused by a limit of the pod, since it joined. */
  #limitedCount = 0;
  /** Accepted and not yet registered, refused or handed to the tunnel server. */
  readonly #settingUp = new Set<TcpStream>();
  /** Requests over tunnels that wait for what they are decided by: neither registered nor refused. */
  readonly #undecided = new Set<TunnelRequest>();
  #isClosed = false;

  private constructor(
    context: ProxyContext,
    uid: string,
    pod: PodInfo,
    { netns, share, ownIdentity }: PodHandles,
  ) {
    this.#context = context;
    this.uid = uid;
    this.netns = netns;
    this.#share = share;
    this.#ownIdentity = ownIdentity;
    this.pace = new PacedListeners(context.reactor, this.#pacedListeners);
    this.connections = new ConnectionManager(share && (() => this.#tellCounts()));
    this.local = new LocalWorkload(context.store, context.reactor, pod);
    this.tunnels = new PodTunnels(context, netns);
    this.#requests = new TurnQueue(context.reactor, NEW_PER_TURN, (request) => {
      this.#onRequest(request);
    });
    this.#server = new HboneServer({
      context: () => this.#contexts()?.server,
      verifyPeer: (uriSans) => verifyTrustDomain([this.#contexts()?.trustDomain ?? ''], uriSans),
      onRequest: (request) => {
        this.#requests.add(request);
        this.#tellCounts();
      },
      maxHandshakes: context.config.podLimits.handshakes,
      sharedHandshakes: share?.handshakes,
      onRejected: (reason, peer) => {
        this.#onRejected(peer, rejectionReason(reason), reason.detail);
      },
      session: sessionOptions(context.config, true),
    });
  }

  /** Accepts on the pod's sockets. Throws when one is missing, with everything closed. */
  static open(context: ProxyContext, uid: string, pod: PodInfo, handles: PodHandles): PodProxy {
    const { sockets, ownIdentity } = handles;
    if (ownIdentity !== undefined) {
      const proxy = new PodProxy(plainly(context), uid, pod, handles);
      for (const socket of sockets) {
        proxy.#listen(socket, (stream) => proxy.#acceptTunnels(stream));
      }
      return proxy;
    }
    const proxy = new PodProxy(context, uid, pod, handles);
    const servers = new Map<number, (stream: TcpStream) => Promise<void>>([
      [OUTBOUND_PORT, (stream) => serveOutbound(context, proxy, stream)],
      [PLAINTEXT_PORT, (stream) => servePassthrough(context, proxy, stream)],
      [HBONE_PORT, (stream) => proxy.#acceptTunnels(stream)],
    ]);
    if (context.config.isSocks5) {
      servers.set(SOCKS5_PORT, (stream) => serveSocks5(context, proxy, stream));
    }
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

  /** A certificate was renewed. */
  certificateRenewed(identity: string): void {
    if (this.#contexts()?.identity === identity) this.tunnels.renew();
  }

  /** Revocation lists have changed: ends what they revoke. */
  closeRevoked(): void {
    const contexts = this.#contexts();
    if (contexts === undefined) return;
    const count = this.#server.closeRevoked(contexts.server) + this.tunnels.closeRevoked(contexts);
    if (count === 0) return;
    const { identity } = contexts;
    this.#context.logger.warn(
      { identity, count },
      'connections closed: peer certificate revoked by CRL',
    );
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

  /** What the pod uses besides its connections. */
  get use(): PodLoad {
    const { handshakes, handshakesTotal, connections } = this.#server;
    return {
      handshakes,
      handshakesTotal,
      tunnels: connections,
      waiting: this.#requests.size,
      limitedTotal: this.#limitedCount,
      delayedTotal: this.pace.delayedTotal,
    };
  }

  /** Connections and what is being set up: what a drain waits for. */
  get activeCount(): number {
    return Math.max(this.connections.size, this.#settingUp.size);
  }

  /**
   * Graceful: no new connections; resolves when the last has ended. When a successor has the same sockets, what waits
   * in their backlogs is its own; else it is served here.
   */
  async drain(isReplaced: boolean): Promise<void> {
    if (!isReplaced) for (const listener of this.#listeners) listener.drainBacklog();
    this.#closeListeners(isReplaced);
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
    for (const stream of this.#settingUp) stream.reset();
    this.#server.close(detail);
    this.tunnels.close(detail);
    this.netns.close();
  }

  #listen({ port, fd }: PodSocket, serve: (stream: TcpStream) => Promise<void>): void {
    const { reactor } = this.#context;
    const exclusive = this.#share !== undefined;
    const maxBurst = port === HBONE_PORT ? HANDSHAKES_PER_TURN : NEW_PER_TURN;
    const onAccept = (stream: TcpStream): void => {
      if (port !== HBONE_PORT) this.pace.accepted();
      const excess = port === HBONE_PORT ? undefined : this.#excess();
      if (excess !== undefined) {
        this.#refuseAccepted(port === PLAINTEXT_PORT ? 'inbound' : 'outbound', stream, excess);
        return;
      }
      void this.#setUp(port, stream, serve);
    };
    const listener = new TcpListener(reactor, fd, onAccept, { maxBurst, exclusive });
    this.#listeners.push(listener);
    if (port !== HBONE_PORT) this.#pacedListeners.push(listener);
  }

  /** One small frame for each: thousands may be set up at once. */
  async #setUp(
    port: number,
    stream: TcpStream,
    serve: (stream: TcpStream) => Promise<void>,
  ): Promise<void> {
    this.#settingUp.add(stream);
    this.#tellCounts();
    try {
      await serve(stream);
    } catch (err) {
      const text = err instanceof Error ? err.stack : String(err);
      this.#context.logger.error({ port, err: text }, 'connection failed unexpectedly');
      stream.reset();
    } finally {
      this.#settingUp.delete(stream);
      this.#tellCounts();
    }
  }

  /** Why the pod may have no more connections now; undefined when it may. */
  #excess(): string | undefined {
    const { connections, connecting } = this.#context.config.podLimits;
    // Told before it is compared: two threads that take the last place at once refuse both, never neither.
    this.#tellCounts(1);
    const count = this.#count + (this.#share?.connections.others ?? 0);
    if (count >= connections)
      return `the pod has ${count} connections, the limit is ${connections}`;
    // A scan of addresses that nobody has leaves thousands of connects without an answer.
    const setUps = this.#settingUp.size + (this.#share?.connecting.others ?? 0);
    if (setUps < connecting) return undefined;
    return `the pod has ${setUps} connections being set up, the limit is ${connecting}`;
  }

  /** What counts against the pod's limit in this thread. */
  get #count(): number {
    const waiting = this.#requests.size + this.#undecided.size;
    return this.connections.size + this.#settingUp.size + waiting;
  }

  /** To the other data threads, where there are any; `coming` is not in our own counts yet. */
  #tellCounts(coming = 0): void {
    this.#share?.connections.set(this.#count + coming);
    this.#share?.connecting.set(this.#settingUp.size + coming);
  }

  #refuseAccepted(direction: 'inbound' | 'outbound', stream: TcpStream, detail: string): void {
    const { address: ip, port } = stream.originalDst();
    const parties = { ...UNKNOWN_PEER, direction, [SIDE[direction]]: this.local.current };
    const { peer } = stream;
    const addresses = { src: joinHostPort(peer.address, peer.port), dst: joinHostPort(ip, port) };
    this.#limitedCount++;
    this.#tellCounts();
    this.#context.recorder.refuse(parties, addresses, 'limit_exceeded', detail);
    stream.reset();
  }

  #closeListeners(isReplaced = false): void {
    for (const listener of this.#listeners.splice(0)) {
      if (isReplaced) listener.closeForSuccessor();
      else listener.close();
    }
  }

  /** The pod's TLS contexts, if they are here. */
  #contexts(): IdentityContexts | undefined {
    const identity = this.#identityOf(this.local.current);
    return identity === undefined ? undefined : this.#context.certificates.current(identity);
  }

  #identityOf(workload: Workload | undefined): string | undefined {
    return this.#ownIdentity ?? (workload && workloadIdentity(workload));
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
      // The pod, or its client, has gone meanwhile.
      if (stream.isClosed) return;
    }
    this.#server.accept(stream);
  }

  /** Resolves when the certificate is here, or with the reason why it is not. */
  async #awaitContexts(): Promise<string | undefined> {
    const identity =
      this.#identityOf(this.local.current) ?? this.#identityOf(await this.local.wait());
    if (identity === undefined) return 'no workload for this pod';
    return this.#context.certificates.get(identity).then(
      () => undefined,
      (err: unknown) => errorMessage(err),
    );
  }

  #onRequest(request: TunnelRequest): void {
    const excess = this.#requests.size < MAX_WAITING ? this.#excess() : 'too many requests wait';
    if (excess !== undefined) {
      const { peerAddress: address, peerPort: port } = request;
      this.#limitedCount++;
      this.#tellCounts();
      this.#onRejected({ address, port }, 'limit_exceeded', excess);
      request.refuse(503);
      return;
    }
    void this.#serveRequest(request);
  }

  /** A client that resets its streams while they wait does not get more of them than the limit. */
  async #serveRequest(request: TunnelRequest): Promise<void> {
    const decided = (): void => {
      if (this.#undecided.delete(request)) this.#tellCounts();
    };
    this.#undecided.add(request);
    this.#tellCounts();
    try {
      await serveInbound(this.#context, this, request, decided);
    } catch (err) {
      const text = err instanceof Error ? err.stack : String(err);
      this.#context.logger.error({ err: text }, 'tunnel request failed unexpectedly');
    } finally {
      decided();
    }
  }

  #onRejected(peer: SocketAddress, reason: FailureReason, detail: string): void {
    const workload = this.local.current;
    this.#context.recorder.refuse(
      { ...UNKNOWN_PEER, direction: 'inbound', destination: workload },
      {
        src: joinHostPort(peer.address, peer.port),
        dst: joinHostPort(workload?.ips[0] ?? '', HBONE_PORT),
      },
      reason,
      detail,
    );
  }
}
