// A double of istiod: delta xDS and the certificate service over TLS on node:http2, gRPC framed by hand, messages by
// field number. What it sends and when is up to the test; certificates are signed at once.
import { once } from 'node:events';
import { createSecureServer } from 'node:http2';
import type { Http2SecureServer, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../../common/clock.ts';
import { CertificateAuthority, createRoot } from '../../common/identity/ca.ts';
import { buildCsr, generateKeyPair, parseCsr } from '../../common/identity/csr.ts';
import { eventually } from '../support/netns-mesh.ts';
import { decodeMessage, encodeMessage, messagesOf, textOf, textsOf } from './wire.ts';
import type { Decoded, Message } from './wire.ts';

const XDS = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const CA = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const PREFIX_BYTES = 5;

/** A DeltaDiscoveryRequest as it came. */
export interface XdsRequest {
  readonly type: string;
  readonly node: { readonly id: string; readonly metadata: Record<string, string> } | undefined;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly initial: Record<string, string>;
  readonly nonce: string;
  readonly error: string;
}

/** A resource of a push. */
export interface Resource {
  readonly name: string;
  readonly version: string;
  readonly message: Message;
  /** Else the push's. */
  readonly type?: string;
}

/** A DeltaDiscoveryResponse. */
export interface Push {
  readonly type: string;
  readonly nonce: string;
  readonly resources?: readonly Resource[];
  readonly removed?: readonly string[];
}

/** What a client asked the certificate service. */
export interface CertificateRequest {
  readonly headers: IncomingHttpHeaders;
  readonly csr: string;
  readonly ttlSec: number;
  readonly hasMetadata: boolean;
}

function pairs(message: Decoded, field: number): Record<string, string> {
  return Object.fromEntries(
    messagesOf(message, field).map((entry) => [textOf(entry, 1), textOf(entry, 2)]),
  );
}

/** A google.protobuf.Struct whose values are strings. */
function structOf(message: Decoded): Record<string, string> {
  return Object.fromEntries(
    messagesOf(message, 1).map((entry) => {
      const [value] = messagesOf(entry, 2);
      return [textOf(entry, 1), value === undefined ? '' : textOf(value, 3)];
    }),
  );
}

function readRequest(bytes: Buffer): XdsRequest {
  const message = decodeMessage(bytes);
  const [node] = messagesOf(message, 1);
  const [metadata] = node === undefined ? [] : messagesOf(node, 3);
  const [error] = messagesOf(message, 7);
  return {
    type: textOf(message, 2),
    node: node && { id: textOf(node, 1), metadata: metadata ? structOf(metadata) : {} },
    subscribe: textsOf(message, 3),
    unsubscribe: textsOf(message, 4),
    initial: pairs(message, 5),
    nonce: textOf(message, 6),
    error: error === undefined ? '' : textOf(error, 2),
  };
}

function framed(payload: Buffer): Buffer {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(payload.length, 1);
  return Buffer.concat([prefix, payload]);
}

/** Calls back with each message of a gRPC body. */
function onMessages(stream: ServerHttp2Stream, take: (payload: Buffer) => void): void {
  let buffered = Buffer.alloc(0);
  stream.on('data', (chunk: Buffer) => {
    buffered = Buffer.concat([buffered, chunk]);
    while (buffered.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + buffered.readUInt32BE(1);
      if (buffered.length < end) return;
      take(buffered.subarray(PREFIX_BYTES, end));
      buffered = buffered.subarray(end);
    }
  });
}

/** Begins a gRPC answer. */
function begin(stream: ServerHttp2Stream, status: { code: number; message: string }): void {
  stream.on('error', () => undefined);
  stream.on('wantTrailers', () => {
    stream.sendTrailers({ 'grpc-status': String(status.code), 'grpc-message': status.message });
  });
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
}

export class Istiod {
  readonly root = createRoot('cluster.local', systemClock);
  readonly #ca = new CertificateAuthority(this.root, systemClock);
  readonly #server: Http2SecureServer;
  readonly #requests: XdsRequest[] = [];
  readonly certificateRequests: CertificateRequest[] = [];
  /** Headers of the xDS streams, the latest last. */
  readonly streams: IncomingHttpHeaders[] = [];
  #xds: ServerHttp2Stream | undefined;
  readonly #status = { code: 0, message: '' };

  constructor() {
    const { certPem, privateKeyPem } = this.#ca.issueServer(['istiod.test'], 3600);
    this.#server = createSecureServer({ cert: certPem, key: privateKeyPem });
    this.#server.on('stream', (stream, headers) => {
      if (headers[':path'] === XDS) this.#openXds(stream, headers);
      else if (headers[':path'] === CA) this.#sign(stream, headers);
      else stream.respond({ ':status': 404 }, { endStream: true });
    });
  }

  /** Listens on loopback; the port. */
  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  #openXds(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    this.streams.push(headers);
    this.#xds = stream;
    begin(stream, this.#status);
    onMessages(stream, (payload) => this.#requests.push(readRequest(payload)));
  }

  #sign(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    begin(stream, { code: 0, message: '' });
    onMessages(stream, (payload) => {
      const request = decodeMessage(payload);
      const csr = textOf(request, 1);
      const ttlSec = Number(request.get(3)?.[0] ?? 0);
      this.certificateRequests.push({ headers, csr, ttlSec, hasMetadata: request.has(4) });
      const { publicKeyDer, uriSans } = parseCsr(csr);
      const chain = this.#ca.issueWorkload(publicKeyDer, uriSans[0] ?? '', ttlSec);
      stream.end(framed(encodeMessage({ 1: chain })));
    });
  }

  /** A certificate of this authority for a peer that the test plays. */
  peer(identity: string): { readonly cert: string; readonly key: string; readonly ca: string } {
    const key = generateKeyPair();
    const { publicKeyDer } = parseCsr(buildCsr(identity, key));
    const [cert = ''] = this.#ca.issueWorkload(publicKeyDer, identity, 600);
    return { cert, key: key.privateKeyPem, ca: this.root.certPem };
  }

  /** The next request of a type, in the order they came. */
  async request(type: string): Promise<XdsRequest> {
    const index = (): number => this.#requests.findIndex((request) => request.type === type);
    await eventually(`a request for ${type}`, () => index() >= 0, 15_000);
    const [request] = this.#requests.splice(index(), 1);
    if (request === undefined) throw new Error('no request');
    return request;
  }

  /** Requests nobody has waited for. */
  get left(): readonly XdsRequest[] {
    return this.#requests;
  }

  push({ type, nonce, resources = [], removed = [] }: Push): void {
    const payload = encodeMessage({
      2: resources.map(({ name, version, message, type: own = type }) => ({
        1: version,
        2: { 1: own, 2: message },
        3: name,
      })),
      4: type,
      5: nonce,
      6: removed,
    });
    this.#xds?.write(framed(payload));
  }

  /** Ends the stream with a gRPC status. */
  endStream(code: number, message: string): void {
    Object.assign(this.#status, { code, message });
    this.#xds?.end();
  }

  close(): void {
    this.#xds?.destroy();
    this.#server.close();
  }
}
