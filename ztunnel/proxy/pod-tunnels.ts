// A pod's outgoing tunnels: the shared pool of common/hbone, dialling from the pod's network namespace with the source
// workload's certificate.
import { openInnerTunnel } from '../../common/hbone/inner-tunnel.ts';
import { HbonePool, isTunnelFailure } from '../../common/hbone/tunnel-pool.ts';
import type { Tunnel, TunnelTarget } from '../../common/hbone/types.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import type { IdentityContexts } from '../identity/certificate-store.ts';
import { TunnelError } from './failures.ts';
import { keepaliveOf } from './keepalive.ts';
import type { TunnelOpener } from './dial.ts';
import { sessionOptions } from './http2-options.ts';
import type { ProxyContext } from './proxy-context.ts';

/** The other side dials the application for up to 10 s before it answers. */
const RESPONSE_TIMEOUT_MS = 15_000;

/** One pod's pool. */
export class PodTunnels implements TunnelOpener {
  readonly #context: ProxyContext;
  readonly #pool: HbonePool;
  /** Addresses of network gateways that were used; they have no workload in this network. */
  readonly #gateways = new Set<string>();

  constructor(context: ProxyContext, netns: Netns | undefined) {
    this.#context = context;
    const { reactor, config, certificates } = context;
    this.#pool = new HbonePool(reactor, {
      dial: ({ address, port }) =>
        connectTcp(reactor, {
          address,
          port,
          mark: config.packetMark,
          ...(netns === undefined ? {} : { netns }),
          ...keepaliveOf(config),
        }),
      context: (identity) =>
        certificates.current(identity)?.client ??
        certificates.get(identity).then(({ client }) => client),
      maxStreamsPerConnection: config.poolMaxStreams,
      idleTimeoutMs: config.poolIdleMs,
      responseTimeoutMs: RESPONSE_TIMEOUT_MS,
      session: sessionOptions(config, false),
    });
  }

  /** Opens a tunnel. Rejects with {@link TunnelError}. */
  async open(target: TunnelTarget): Promise<Tunnel> {
    if (target.inner !== undefined) this.#gateways.add(target.address);
    const result = await this.#pool.connect(target);
    if (isTunnelFailure(result)) throw new TunnelError(result);
    return target.inner === undefined ? result : this.#openInner(target, target.inner, result);
  }

  async #openInner(
    { sourceIdentity, authority }: TunnelTarget,
    inner: NonNullable<TunnelTarget['inner']>,
    { stream }: Tunnel,
  ): Promise<Tunnel> {
    const { reactor, certificates, config } = this.#context;
    const context = certificates.current(sourceIdentity)?.client;
    if (context === undefined) {
      stream.reset();
      throw new TunnelError({ code: 'certificate', detail: `no certificate of ${sourceIdentity}` });
    }
    const result = await openInnerTunnel(reactor, stream, {
      ...inner,
      authority,
      context,
      session: sessionOptions(config, false),
      timeoutMs: RESPONSE_TIMEOUT_MS,
    });
    if (isTunnelFailure(result)) throw new TunnelError(result);
    return result;
  }

  /** Lets connections to workloads that left the mesh run out, so that their pods can go. */
  retireStale(): void {
    const { store, config } = this.#context;
    this.#pool.drainAddresses(
      (address) =>
        !this.#gateways.has(address) &&
        store.findWorkload(config.network, address)?.protocol !== 'HBONE',
    );
  }

  /** The certificate was renewed: new streams go by new handshakes, so no verification outlives a certificate. */
  renew(): void {
    this.#pool.drain();
  }

  /** Ends connections whose peer's certificate is revoked now. */
  closeRevoked({ identity, client }: IdentityContexts): number {
    return this.#pool.closeRevoked(identity, client);
  }

  /** Ends all connections and their streams. */
  close(detail: string): void {
    this.#pool.close(detail);
  }
}
