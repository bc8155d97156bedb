// Client of Istio's CA service: a CSR in, a certificate chain out.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Client } from '@grpc/grpc-js';
import { MeshError } from '../errors.ts';
import { callMetadata, openChannel } from './channel.ts';
import type { ControlPlaneAddress } from './channel.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from './gen/ca_pb.ts';
import type { IstioCertificateRequest, IstioCertificateResponse } from './gen/ca_pb.ts';

const METHOD = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const CALL_TIMEOUT_MS = 10_000;

/** What to sign. */
export interface SigningRequest {
  readonly csrPem: string;
  readonly ttlSec: number;
  /** A node proxy asks on behalf of a workload: its SPIFFE id. Others leave it out. */
  readonly impersonatedIdentity?: string;
}

/** Signs certificate requests at the control plane. One channel, replaced after a failure. */
export class CaClient {
  readonly #target: ControlPlaneAddress;
  #channel: Client | undefined;
  #isRootNew = false;

  constructor(target: ControlPlaneAddress) {
    this.#target = target;
  }

  /** Returns PEM texts: leaf, intermediates, and last the root(s). Rejects with `ca_failed`. */
  async sign(request: SigningRequest): Promise<readonly string[]> {
    let response: IstioCertificateResponse;
    try {
      response = await this.#call(request);
    } catch (err) {
      // A root that was rotated or a moved server needs a fresh channel; the next call makes it.
      this.close();
      throw err instanceof MeshError
        ? err
        : new MeshError('ca_failed', `certificate request failed: ${String(err)}`, { cause: err });
    }
    const chain = response.certChain;
    if (chain.length < 2) {
      throw new MeshError('ca_failed', `the ca answered ${chain.length} certificates, no root`);
    }
    return chain;
  }

  /** The root's file has changed: the next call makes a channel with it, or keeps the old one while it cannot be read. */
  followRoot(): void {
    this.#isRootNew = true;
  }

  close(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  #open(): Client {
    if (this.#channel !== undefined && !this.#isRootNew) return this.#channel;
    try {
      const channel = openChannel(this.#target);
      this.#channel?.close();
      this.#channel = channel;
      this.#isRootNew = false;
      return channel;
    } catch (err) {
      if (this.#channel === undefined) throw err;
      return this.#channel;
    }
  }

  #call(request: SigningRequest): Promise<IstioCertificateResponse> {
    const channel = this.#open();
    const message = create(IstioCertificateRequestSchema, {
      csr: request.csrPem,
      validityDuration: BigInt(Math.round(request.ttlSec)),
      ...(request.impersonatedIdentity === undefined
        ? {}
        : { metadata: { ImpersonatedIdentity: request.impersonatedIdentity } }),
    });
    const metadata = callMetadata(this.#target);
    return new Promise((resolve, reject) => {
      channel.makeUnaryRequest<IstioCertificateRequest, IstioCertificateResponse>(
        METHOD,
        (value) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
        (bytes) => fromBinary(IstioCertificateResponseSchema, bytes),
        message,
        metadata,
        { deadline: Date.now() + CALL_TIMEOUT_MS },
        (err, value) => {
          if (err !== null) reject(new MeshError('ca_failed', err.message, { cause: err }));
          else if (value === undefined) reject(new MeshError('ca_failed', 'empty answer'));
          else resolve(value);
        },
      );
    });
  }
}
