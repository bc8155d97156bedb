// The proxy of one pod: listeners in the pod's network namespace, its tunnels, its connections.
import { writeFileSync } from 'node:fs';
import { verifyTrustDomain } from '../../common/hbone/peer-identity.ts';
import { rejectionReason } from '../../common/hbone/rejection.ts';
import { HboneServer } from '../../common/hbone/tunnel-server.ts';
import type { TunnelRequest } from '../../common/hbone/types.ts';
import { errorMessage } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { openTcpListener } from '../../engine/reactor/socket-options.ts';
import type { BoundSocket } from '../../engine/reactor/socket-options.ts';
import { TcpListener } from '../../engine/reactor/tcp-listener.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { SocketAddress } from '../../engine/reactor/socket-address.ts';
import type { PodDump } from '../messages.ts';
import { ConnectionManager } from './connection-manager.ts';
import { checkPolicies, serveInbound } from './inbound.ts';
import { sessionOptions } from './http2-options.ts';
import { LocalWorkload } from './local-workload.ts';
import { serveOutbound } from './outbound.ts';
import { servePassthrough } from './passthrough.ts';
import { PodTunnels } from './pod-tunnels.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { FailureReason } from './reasons.ts';
import type { IdentityContexts } from '../identity/certificate-store.ts';

const OUTBOUND_PORT = 15001;
const PLAINTEXT_PORT = 15006;
const HBONE_PORT = 15008;

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

  /** Opens the listeners; throws when one cannot be bound, with nothing left open. The netns is taken over. */
  static open(context: ProxyContext, uid: string, pod: PodInfo, netns: Netns): PodProxy {
    const proxy = new PodProxy(context, uid, pod, netns);
    try {
      proxy.#listen(OUTBOUND_PORT, (stream) => serveOutbound(context, proxy, stream));
      proxy.#listen(PLAINTEXT_PORT, (stream) => servePassthrough(context, proxy, stream));
      proxy.#listen(HBONE_PORT, (stream) => proxy.#acceptTunnels(stream));
    } catch (err) {
      proxy.close('pod_removed', 'listeners could not be opened');
      throw err;
    }
    return proxy;
  }

  /** Policies have changed: end what they no longer allow. */
  reevaluate(): void {
    const workload = this.local.current;
    if (workload === undefined) return;
    for (const connection of this.connections.inbound()) {
      if (connection.facts === undefined) continue;
      const verdict = checkPolicies(this.#context, workload, connection.facts);
      if (verdict.isAllowed) continue;
      const detail = `connection closed due to policy change: ${verdict.reason}`;
      connection.abort('policy_changed', detail, verdict.policy);
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

  /** Graceful: no new connections; resolves when the last has ended. */
  async drain(): Promise<void> {
    this.#handOverBacklog();
    this.#closeListeners();
    this.#server.drain();
    await this.connections.whenEmpty();
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

  #listen(port: number, serve: (stream: TcpStream) => Promise<void>): void {
    const { reactor, logger } = this.#context;
    const socket = this.#bind(port);
    const listener = new TcpListener(reactor, socket.fd, (stream) => {
      serve(stream).catch((err: unknown) => {
        const text = err instanceof Error ? err.stack : String(err);
        logger.error({ port, err: text }, 'connection failed unexpectedly');
        stream.reset();
      });
    });
    this.#listeners.push(listener);
  }

  #bind(port: number): BoundSocket {
    const { config } = this.#context;
    const options = {
      port,
      netns: this.netns,
      mark: config.packetMark,
      transparent: config.isSourcePreserved,
      reusePort: config.isPortReuse,
    };
    if (!config.isIpv6) return openTcpListener({ ...options, address: '0.0.0.0' });
    try {
      return openTcpListener({ ...options, address: '::' });
    } catch (err) {
      // A pod may have IPv6 turned off where its node has it.
      if (!/EADDRNOTAVAIL|EAFNOSUPPORT/.test(errorMessage(err))) throw err;
      return openTcpListener({ ...options, address: '0.0.0.0' });
    }
  }

  /**
   * Another process may already listen on the same ports (SO_REUSEPORT). What waits in our backlogs is served here;
   * what comes between that and the close goes to the other one, where the kernel can migrate it.
   */
  #handOverBacklog(): void {
    try {
      this.netns.runSync(() => writeFileSync('/proc/sys/net/ipv4/tcp_migrate_req', '1'));
    } catch (err) {
      this.#context.logger.debug({ err: errorMessage(err) }, 'backlogs are not migrated');
    }
    for (const listener of this.#listeners) listener.drainBacklog();
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
