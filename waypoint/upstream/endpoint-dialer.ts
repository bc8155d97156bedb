// Dials endpoints: by HBONE through the endpoint's node proxy with exactly the endpoint's identity expected (Istio's
// waypoint accepts any of the trust domain; ours does not), or by plain TCP where the endpoint is not in the mesh.
import type { Duplex } from '../../engine/reactor/duplex.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import type { TlsContext } from '../../engine/tls/tls-context.ts';
import { encodeBaggage } from '../../common/hbone/baggage.ts';
import { isRevocation } from '../../common/hbone/rejection.ts';
import { HbonePool, isTunnelFailure } from '../../common/hbone/tunnel-pool.ts';
import type { TunnelFailure } from '../../common/hbone/types.ts';
import { MeshError } from '../../common/errors.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { Config } from '../config.ts';
import { ownIdentity } from '../config.ts';
import { DialError } from './dial.ts';

const HBONE_PORT = 15008;

/** What the dialer needs of the waypoint. */
export interface DialerOptions {
  /** Context of the waypoint's identity now; undefined: no certificate, or no lists that could be read. */
  readonly context: () => TlsContext | undefined;
  /** An endpoint was refused because its certificate is revoked. */
  readonly onRevoked: () => void;
}

/** Opens connections for one thread. */
export class EndpointDialer {
  readonly #reactor: Reactor;
  readonly #identity: string;
  readonly #headers: ReadonlyArray<readonly [string, string]>;
  readonly #pool: HbonePool;
  readonly #onRevoked: () => void;
  readonly #trustDomains: readonly string[];

  constructor(reactor: Reactor, config: Config, { context, onRevoked }: DialerOptions) {
    this.#reactor = reactor;
    this.#identity = ownIdentity(config);
    this.#headers = [
      [
        'baggage',
        encodeBaggage({
          clusterId: config.clusterId,
          namespace: config.podNamespace,
          workloadType: 'deployment',
          workloadName: config.gatewayName,
          canonicalName: config.gatewayName,
          canonicalRevision: 'latest',
        }),
      ],
    ];
    this.#onRevoked = onRevoked;
    this.#trustDomains = [config.trustDomain, ...config.trustDomainAliases];
    this.#pool = new HbonePool(reactor, {
      dial: ({ address, port }) => connectTcp(reactor, { address, port }),
      context: () => {
        const current = context();
        if (current !== undefined) return current;
        throw new MeshError('certificate_unavailable', 'the waypoint has no usable certificate');
      },
    });
  }

  /** The workload's own, and as long as it is in the mesh's trust domain the same under its other names. */
  #identitiesOf(workload: Endpoint['workload']): string[] {
    const domains = this.#trustDomains.includes(workload.trustDomain)
      ? this.#trustDomains
      : [workload.trustDomain];
    return domains.map((trustDomain) => workloadIdentity({ ...workload, trustDomain }));
  }

  /** The certificate was renewed: tunnels that are open go on, new ones go by new connections. */
  renew(): void {
    this.#pool.drain();
  }

  /** Ends connections to endpoints whose certificate is revoked now; tells how many. */
  closeRevoked(context: TlsContext): number {
    return this.#pool.closeRevoked(this.#identity, context);
  }

  readonly dial = (endpoint: Endpoint, timeoutMs: number): Promise<Duplex> =>
    endpoint.workload.protocol === 'HBONE'
      ? this.#dialTunnel(endpoint, timeoutMs)
      : this.#dialPlain(endpoint, timeoutMs);

  close(detail: string): void {
    this.#pool.close(detail);
  }

  async #dialPlain({ workload, port }: Endpoint, timeoutMs: number): Promise<Duplex> {
    try {
      return await connectTcp(this.#reactor, { address: addressOf(workload), port, timeoutMs });
    } catch (err) {
      throw dialErrorOf(err);
    }
  }

  async #dialTunnel({ workload, port }: Endpoint, timeoutMs: number): Promise<Duplex> {
    const address = addressOf(workload);
    const abort = new AbortController();
    const timer = this.#reactor.after(timeoutMs, () => abort.abort());
    try {
      const result = await this.#pool.connect(
        {
          address,
          port: HBONE_PORT,
          authority: joinHostPort(address, port),
          headers: this.#headers,
          sourceIdentity: this.#identity,
          expectedIdentities: this.#identitiesOf(workload),
        },
        abort.signal,
      );
      if (isTunnelFailure(result)) {
        if (isRevocation(result)) this.#onRevoked();
        throw tunnelError(result, address);
      }
      return result.stream;
    } finally {
      timer.cancel();
    }
  }
}

function addressOf(workload: Endpoint['workload']): string {
  const [address] = workload.ips;
  if (address === undefined) throw new DialError('connect', `${workload.uid} has no address`);
  return address;
}

function tunnelError({ code, detail, status }: TunnelFailure, address: string): DialError {
  if (code === 'identity') return new DialError('identity', detail);
  if (code === 'timeout') {
    return new DialError(
      'timeout',
      `connect to ${joinHostPort(address, HBONE_PORT)} timed out; a NetworkPolicy may block HBONE`,
    );
  }
  return new DialError('connect', status === undefined ? detail : `tunnel answered ${status}`);
}

function dialErrorOf(err: unknown): DialError {
  if (!(err instanceof StreamError)) return new DialError('connect', String(err));
  return new DialError(err.reason.code === 'timeout' ? 'timeout' : 'connect', err.reason.detail);
}
