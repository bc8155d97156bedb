// What the gRPC port does with a call: who calls (token review), which snapshot a client
// may see, and certificates. A client's claims about itself must fit its token.
import type { CertificateAuthority } from '../../common/identity/ca.ts';
import { parseCsr } from '../../common/identity/csr.ts';
import { readCertificate } from '../../common/identity/x509.ts';
import { MeshError } from '../../common/errors.ts';
import type { CallInfo, GrpcHandlers, ServerStream } from '../../common/grpc/server.ts';
import type { TokenIdentity, TokenReviewer } from '../../common/kube/token-review.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { DeltaServer } from '../../common/xds/delta-server.ts';
import type { ClientNode, DeltaSession, TypeSnapshot } from '../../common/xds/delta-server.ts';
import type { DeltaDiscoveryRequest } from '../../common/xds/gen/discovery_pb.ts';
import type { CertificateWatch } from '../ca/certificate-watch.ts';
import { decideIdentity } from '../ca/impersonation.ts';
import type { PlacedPod } from '../ca/impersonation.ts';
import type { Counters } from '../metrics.ts';
import { WAYPOINT_TYPES } from './snapshots.ts';
import type { Snapshots } from './snapshots.ts';

const GATEWAY_LABEL = 'gateway.networking.k8s.io/gateway-name';

/** A pod as the waypoint check and the CA read it. */
export type CallerPod = PlacedPod & {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
};

/** Options of {@link Discovery}. */
export interface DiscoveryOptions {
  readonly reviewer: TokenReviewer;
  /** The one in force. */
  readonly authority: () => CertificateAuthority;
  readonly snapshots: Snapshots;
  readonly trustDomain: string;
  readonly nodeAccounts: readonly string[];
  readonly pods: () => ReadonlyMap<string, CallerPod>;
  readonly counters: Counters;
  /** Told of what is issued and refused. */
  readonly certificates: Pick<CertificateWatch, 'issued' | 'refused'>;
  readonly logger: Logger;
}

/** An open stream, for the debug page. */
export interface ConnectedClient {
  readonly session: DeltaSession;
  readonly caller: TokenIdentity;
  readonly peer: string;
  readonly connectedAtMs: number;
}

/** Serves the proxies. */
export class Discovery implements GrpcHandlers<TokenIdentity> {
  readonly #options: DiscoveryOptions;
  readonly #clients = new Set<ConnectedClient>();
  /** By node metadata object, which lives as long as its session. */
  readonly #callers = new WeakMap<ClientNode, TokenIdentity>();
  /** Settled at the first request: a pod that vanishes from the watch must not end its stream. */
  readonly #gateways = new WeakMap<ClientNode, string>();
  readonly server: DeltaServer;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    const { counters, logger } = options;
    this.server = new DeltaServer({
      snapshotOf: (typeUrl, node) => this.#snapshotOf(typeUrl, node),
      events: {
        onPush: (typeUrl) => counters.add('pilot_xds_pushes', { type: shortType(typeUrl) }),
        onNack: (node, typeUrl, message) => {
          counters.add('pilot_total_xds_rejects', { type: shortType(typeUrl) });
          logger.warn({ node: node.id, typeUrl, err: message }, 'xds resources rejected by client');
        },
      },
    });
  }

  get clients(): ReadonlySet<ConnectedClient> {
    return this.#clients;
  }

  async authenticate(call: CallInfo): Promise<TokenIdentity> {
    const identity =
      call.token === undefined ? undefined : await this.#options.reviewer.review(call.token);
    if (identity !== undefined) return identity;
    this.#options.counters.add('citadel_server_authentication_failure_count');
    this.#options.logger.warn(
      { peer: call.peer, hasToken: call.token !== undefined },
      'caller refused',
    );
    throw new MeshError(
      'unauthenticated',
      'a service account token for audience istio-ca is needed',
    );
  }

  openStream(
    caller: TokenIdentity,
    peer: string,
    send: Parameters<DeltaServer['open']>[0],
  ): ServerStream {
    const session = this.server.open(send);
    const client = { session, caller, peer, connectedAtMs: Date.now() };
    this.#clients.add(client);
    let isKnown = false;
    return {
      onRequest: (request) => {
        if (!isKnown) {
          this.#checkNode(caller, request);
          isKnown = true;
          const fields = { node: request.node?.id, peer };
          this.#options.logger.info(fields, 'xds client connected');
        }
        session.onRequest(request, (node) => this.#callers.set(node, caller));
      },
      onEnd: () => {
        session.close();
        this.#clients.delete(client);
        this.#options.logger.info({ node: session.node?.id, peer }, 'xds client disconnected');
      },
    };
  }

  sign(
    caller: TokenIdentity,
    request: { csrPem: string; ttlSec: number; metadata: Readonly<Record<string, unknown>> },
  ): Promise<readonly string[]> {
    const { authority, certificates, counters, logger, nodeAccounts, trustDomain } = this.#options;
    counters.add('citadel_server_csr_count');
    const wanted = request.metadata['ImpersonatedIdentity'];
    const decision = decideIdentity({
      caller,
      impersonated: typeof wanted === 'string' ? wanted : undefined,
      trustDomain,
      nodeAccounts,
      pods: this.#options.pods(),
    });
    if (!decision.isAllowed) {
      counters.add('citadel_server_authentication_failure_count');
      const who = `${caller.namespace}/${caller.serviceAccount}`;
      logger.warn({ caller: who, wanted, reason: decision.reason }, 'certificate refused');
      certificates.refused(caller, decision.reason);
      throw new MeshError('unauthenticated', 'the caller may not have this identity');
    }
    const csr = parseCsr(request.csrPem);
    const chain = authority().issueWorkload(csr.publicKeyDer, decision.identity, request.ttlSec);
    counters.add('citadel_server_success_cert_issuance_count');
    const { notBeforeMs, notAfterMs } = readCertificate(chain[0] ?? '');
    certificates.issued(caller, { identity: decision.identity, notBeforeMs, notAfterMs });
    logger.info({ identity: decision.identity }, 'certificate issued');
    return Promise.resolve(chain);
  }

  #checkNode(caller: TokenIdentity, request: DeltaDiscoveryRequest): void {
    const { NAMESPACE, SERVICE_ACCOUNT } = request.node?.metadata ?? {};
    const isOwn =
      (NAMESPACE === undefined || NAMESPACE === caller.namespace) &&
      (SERVICE_ACCOUNT === undefined || SERVICE_ACCOUNT === caller.serviceAccount);
    if (!isOwn) throw new MeshError('permission_denied', 'node metadata does not fit the token');
  }

  #snapshotOf(typeUrl: string, node: ClientNode): TypeSnapshot | undefined {
    const part = WAYPOINT_TYPES.get(typeUrl);
    if (part === undefined) return this.#options.snapshots.shared(typeUrl);
    const caller = this.#callers.get(node);
    const known = this.#gateways.get(node);
    const gateway = known ?? (caller === undefined ? undefined : this.#gatewayOf(caller, node));
    if (gateway === undefined) {
      throw new MeshError('permission_denied', 'the caller is not a pod of that waypoint');
    }
    this.#gateways.set(node, gateway);
    return this.#options.snapshots.waypoint(gateway, part);
  }

  /** `namespace/gateway` of a waypoint: its pod carries the label, or its account has the gateway's name. */
  #gatewayOf(caller: TokenIdentity, node: ClientNode): string | undefined {
    const pod = this.#options.pods().get(`${caller.namespace}/${caller.podName ?? ''}`);
    const label = pod?.metadata?.labels?.[GATEWAY_LABEL];
    const name = node.metadata['GATEWAY_NAME'] ?? label;
    if (typeof name !== 'string') return undefined;
    const isOwn = name === label || name === caller.serviceAccount;
    return isOwn ? `${caller.namespace}/${name}` : undefined;
  }
}

function shortType(typeUrl: string): string {
  // A peer chooses the URL: only known ones become a label.
  const isKnown = /^type\.googleapis\.com\/(istio|ambientmesh)\.[a-zA-Z0-9.]{1,60}$/.test(typeUrl);
  return isKnown ? typeUrl.slice(typeUrl.lastIndexOf('.') + 1) : 'other';
}
