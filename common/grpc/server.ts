// The control plane's gRPC side: delta ADS and Istio's certificate service, over TLS with a certificate that can be
// replaced while running, or in plaintext. Who calls is decided by the `authenticate` hook from the bearer token.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import type {
  sendUnaryData,
  ServerDuplexStream,
  ServerUnaryCall,
  ServiceDefinition,
} from '@grpc/grpc-js';
import { MeshError, errorMessage } from '../errors.ts';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '../xds/gen/discovery_pb.ts';
import type { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from '../xds/gen/discovery_pb.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from './gen/ca_pb.ts';
import type { IstioCertificateRequest, IstioCertificateResponse } from './gen/ca_pb.ts';

/** What is known of a call before its first message. */
export interface CallInfo {
  /** Text after `Bearer `; undefined without one. */
  readonly token: string | undefined;
  readonly peer: string;
}

/** The server's side of an open delta stream. */
export interface ServerStream {
  onRequest(request: DeltaDiscoveryRequest): void;
  onEnd(): void;
}

/** What is served. A thrown MeshError's code chooses the gRPC status, see STATUS_OF. */
export interface GrpcHandlers<Caller> {
  authenticate(call: CallInfo): Promise<Caller>;
  openStream(caller: Caller, peer: string, send: (m: DeltaDiscoveryResponse) => void): ServerStream;
  sign(
    caller: Caller,
    request: { csrPem: string; ttlSec: number; metadata: Readonly<Record<string, unknown>> },
  ): Promise<readonly string[]>;
}

/** Certificate chain and key of the server. */
export interface ServerTls {
  readonly certChainPem: string;
  readonly privateKeyPem: string;
}

/** Options of {@link openGrpcServer}. */
export interface GrpcServerOptions<Caller> {
  /** `host:port`. */
  readonly address: string;
  /** Undefined serves plaintext. */
  readonly tls?: ServerTls;
  readonly handlers: GrpcHandlers<Caller>;
}

/** A listening server. */
export interface GrpcServer {
  readonly port: number;
  /** New connections get the new certificate. */
  replaceTls(tls: ServerTls): void;
  /** Refuses new calls and ends the streams, so that clients reconnect elsewhere. */
  close(): Promise<void>;
}

const DELTA_METHOD =
  '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const SIGN_METHOD = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
/** A reconnecting client lists every name it holds: 100,000 names are about 8 MB. */
const MAX_REQUEST_BYTES = 32 << 20;
const MAX_CONNECTION_AGE_MS = 30 * 60_000;
const CLOSE_GRACE_MS = 2000;

const STATUS_OF: Readonly<Record<string, status>> = {
  unauthenticated: status.UNAUTHENTICATED,
  permission_denied: status.PERMISSION_DENIED,
  unavailable: status.UNAVAILABLE,
  kube_api: status.UNAVAILABLE,
  invalid_csr: status.INVALID_ARGUMENT,
  invalid_argument: status.INVALID_ARGUMENT,
  xds_node: status.INVALID_ARGUMENT,
  xds_limit: status.RESOURCE_EXHAUSTED,
};

const SERVICES: ServiceDefinition = {
  delta: {
    path: DELTA_METHOD,
    requestStream: true,
    responseStream: true,
    requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
    requestSerialize: (m: DeltaDiscoveryRequest) =>
      Buffer.from(toBinary(DeltaDiscoveryRequestSchema, m)),
    responseDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
    responseSerialize: (m: DeltaDiscoveryResponse) =>
      Buffer.from(toBinary(DeltaDiscoveryResponseSchema, m)),
  },
  sign: {
    path: SIGN_METHOD,
    requestStream: false,
    responseStream: false,
    requestDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateRequestSchema, bytes),
    requestSerialize: (m: IstioCertificateRequest) =>
      Buffer.from(toBinary(IstioCertificateRequestSchema, m)),
    responseDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
    responseSerialize: (m: IstioCertificateResponse) =>
      Buffer.from(toBinary(IstioCertificateResponseSchema, m)),
  },
};

/** Server credentials whose certificate can be replaced; connections already made keep theirs. */
class ReplaceableCredentials extends ServerCredentials {
  constructor(tls: ServerTls) {
    super({ minVersion: 'TLSv1.2' }, secureContext(tls));
  }

  replace(tls: ServerTls): void {
    this.updateSecureContextOptions(secureContext(tls));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function secureContext(tls: ServerTls): { cert: string; key: string } {
  return { cert: tls.certChainPem, key: tls.privateKeyPem };
}

/** Opens the server; rejects when the address is taken. */
export async function openGrpcServer<Caller>(
  options: GrpcServerOptions<Caller>,
): Promise<GrpcServer> {
  const server = new Server({
    'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
    'grpc.max_send_message_length': -1,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.max_connection_age_ms': MAX_CONNECTION_AGE_MS,
    'grpc.max_connection_age_grace_ms': 10_000,
    'grpc.max_concurrent_streams': 1000,
  });
  const { handlers } = options;
  server.addService(SERVICES, {
    delta: (call: ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>) =>
      serveStream(call, handlers),
    sign: (
      call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
      callback: sendUnaryData<IstioCertificateResponse>,
    ) => {
      serveSigning(call.request, callInfo(call.metadata, call.getPeer()), handlers).then(
        (response) => callback(null, response),
        (err: unknown) => callback(statusOf(err)),
      );
    },
  });
  const tls = options.tls === undefined ? undefined : new ReplaceableCredentials(options.tls);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(options.address, tls ?? ServerCredentials.createInsecure(), (err, bound) => {
      if (err === null) resolve(bound);
      else reject(err);
    });
  });
  return { port, replaceTls: (next) => tls?.replace(next), close: () => closeServer(server) };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.forceShutdown(), CLOSE_GRACE_MS);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
    // Streams of xDS never end by themselves; a drain would only delay the clients' reconnect.
    server.forceShutdown();
  });
}

function serveStream<Caller>(
  call: ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>,
  handlers: GrpcHandlers<Caller>,
): void {
  const waiting: DeltaDiscoveryRequest[] = [];
  let stream: ServerStream | undefined;
  let hasEnded = false;
  const finish = (): void => {
    if (hasEnded) return;
    hasEnded = true;
    stream?.onEnd();
  };
  const fail = (err: unknown): void => {
    finish();
    call.emit('error', statusOf(err));
  };
  const accept = (request: DeltaDiscoveryRequest): void => {
    try {
      stream?.onRequest(request);
    } catch (err) {
      fail(err);
    }
  };
  // Requests come before the token has been reviewed; the stream is paused meanwhile, so few can wait.
  call.on('data', (request: DeltaDiscoveryRequest) => {
    if (hasEnded) return;
    if (stream === undefined) waiting.push(request);
    else accept(request);
  });
  call.on('end', () => {
    finish();
    call.end();
  });
  call.on('error', finish);
  call.on('cancelled', finish);
  call.pause();
  const peer = call.getPeer();
  handlers
    .authenticate(callInfo(call.metadata, peer))
    .then((caller) => {
      if (hasEnded || call.cancelled) return;
      stream = handlers.openStream(caller, peer, (response) => {
        if (!hasEnded) call.write(create(DeltaDiscoveryResponseSchema, response));
      });
      for (const request of waiting.splice(0)) accept(request);
      call.resume();
    })
    .catch(fail);
}

async function serveSigning<Caller>(
  request: IstioCertificateRequest,
  info: CallInfo,
  handlers: GrpcHandlers<Caller>,
): Promise<IstioCertificateResponse> {
  const caller = await handlers.authenticate(info);
  const certChain = await handlers.sign(caller, {
    csrPem: request.csr,
    ttlSec: Number(request.validityDuration),
    metadata: request.metadata ?? {},
  });
  return create(IstioCertificateResponseSchema, { certChain: [...certChain] });
}

function callInfo(metadata: Metadata, peer: string): CallInfo {
  const header = metadata.get('authorization')[0];
  const text = typeof header === 'string' ? header : '';
  return { token: /^Bearer (\S+)$/i.exec(text)?.[1], peer };
}

function statusOf(err: unknown): { code: status; details: string; metadata: Metadata } {
  const code = err instanceof MeshError ? STATUS_OF[String(err.code)] : undefined;
  return {
    code: code ?? status.INTERNAL,
    // Only our own words go to a peer.
    details: code === undefined ? 'internal error' : errorMessage(err),
    metadata: new Metadata(),
  };
}
