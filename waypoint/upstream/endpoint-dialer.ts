// Dials endpoints: by HBONE through the endpoint's node proxy with exactly the endpoint's identity expected (Istio's
// waypoint accepts any of the trust domain; ours does not), or by plain TCP where the endpoint is not in the mesh.
import type { Duplex } from '../../engine/reactor/duplex.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import { TlsContext } from '../../engine/tls/tls-context.ts';
import { encodeBaggage } from '../../common/hbone/baggage.ts';
import { HbonePool, isTunnelFailure } from '../../common/hbone/tunnel-pool.ts';
import type { TunnelFailure } from '../../common/hbone/types.ts';
import { MeshError } from '../../common/errors.ts';
import type { WorkloadCertificate } from '../../common/identity/secret-manager.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { Config } from '../config.ts';
import { ownIdentity } from '../config.ts';
import { DialError } from './dial.ts';

const HBONE_PORT = 15008;

/** Opens connections for one thread; holds its client certificate. */
export class EndpointDialer {
  readonly #reactor: Reactor;
  readonly #identity: string;
  readonly #headers: ReadonlyArray<readonly [string, string]>;
  #context: TlsContext | undefined;
  #pool: HbonePool;

  constructor(reactor: Reactor, config: Config) {
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
    this.#pool = this.#newPool();
  }

  /** Uses a new certificate for new connections; tunnels that are open go on, and their connections drain. */
  setCertificate(certificate: WorkloadCertificate): void {
    const old = this.#context;
    this.#context = TlsContext.client(certificate);
    if (old === undefined) return;
    this.#pool.drain();
    this.#pool = this.#newPool();
    old.close();
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
          expectedIdentities: [workloadIdentity(workload)],
        },
        abort.signal,
      );
      if (isTunnelFailure(result)) throw tunnelError(result, address);
      return result.stream;
    } finally {
      timer.cancel();
    }
  }

  #newPool(): HbonePool {
    return new HbonePool(this.#reactor, {
      dial: ({ address, port }) => connectTcp(this.#reactor, { address, port }),
      context: () => {
        if (this.#context !== undefined) return this.#context;
        throw new MeshError('certificate_unavailable', 'the waypoint has no certificate yet');
      },
    });
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
      `connect to ${address}:${HBONE_PORT} timed out; a NetworkPolicy may block HBONE`,
    );
  }
  return new DialError('connect', status === undefined ? detail : `tunnel answered ${status}`);
}

function dialErrorOf(err: unknown): DialError {
  if (!(err instanceof StreamError)) return new DialError('connect', String(err));
  return new DialError(err.reason.code === 'timeout' ? 'timeout' : 'connect', err.reason.detail);
}
