// ZDS messages (Istio's `istio.workload.zds`): one protobuf message a SEQPACKET packet. The client sends hello, then
// one acknowledgement for each request, in order. Used by the node proxy (client) and the cni agent (server).
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { MeshError } from '../errors.ts';
import {
  Version,
  WorkloadRequestSchema,
  WorkloadResponseSchema,
  ZdsHelloSchema,
} from './gen/zds_pb.ts';
import type { WorkloadRequest } from './gen/zds_pb.ts';

/** Who a pod is, as the cni agent says. */
export interface PodInfo {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** A request of the agent. `add` comes with exactly one descriptor, the others with none. */
export type ZdsRequest =
  | { readonly kind: 'add'; readonly uid: string; readonly pod: PodInfo }
  | { readonly kind: 'keep'; readonly uid: string }
  | { readonly kind: 'del'; readonly uid: string }
  | { readonly kind: 'snapshotSent' };

/** The client's first packet. */
export function encodeHello(): Uint8Array {
  return toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: Version.V1 }));
}

/** Reads the first packet; throws `bad_zds` for an unknown version. */
export function decodeHello(bytes: Uint8Array): void {
  const hello = parse(() => fromBinary(ZdsHelloSchema, bytes));
  if (hello.version !== Version.V1) {
    throw new MeshError('bad_zds', `unknown zds version ${hello.version}`);
  }
}

/** An agent's request as a packet. */
export function encodeRequest(request: ZdsRequest): Uint8Array {
  return toBinary(
    WorkloadRequestSchema,
    create(WorkloadRequestSchema, { payload: toPayload(request) }),
  );
}

function toPayload(request: ZdsRequest): WorkloadRequest['payload'] {
  const named = <T extends string>(name: T): { $typeName: `istio.workload.zds.${T}` } => ({
    $typeName: `istio.workload.zds.${name}`,
  });
  switch (request.kind) {
    case 'add': {
      const workloadInfo = { ...named('WorkloadInfo'), ...request.pod };
      return { case: 'add', value: { ...named('AddWorkload'), uid: request.uid, workloadInfo } };
    }
    case 'keep':
      return { case: 'keep', value: { ...named('KeepWorkload'), uid: request.uid } };
    case 'del':
      return { case: 'del', value: { ...named('DelWorkload'), uid: request.uid } };
    case 'snapshotSent':
      return { case: 'snapshotSent', value: named('SnapshotSent') };
  }
}

/** Reads a request. Throws `bad_zds`. */
export function decodeRequest(bytes: Uint8Array): ZdsRequest {
  const { payload } = parse(() => fromBinary(WorkloadRequestSchema, bytes));
  switch (payload.case) {
    case 'add': {
      const { uid, workloadInfo } = payload.value;
      if (workloadInfo === undefined) throw new MeshError('bad_zds', 'add without workload info');
      const { name, namespace, serviceAccount } = workloadInfo;
      return { kind: 'add', uid, pod: { name, namespace, serviceAccount } };
    }
    case 'keep':
      return { kind: 'keep', uid: payload.value.uid };
    case 'del':
      return { kind: 'del', uid: payload.value.uid };
    case 'snapshotSent':
      return { kind: 'snapshotSent' };
    case undefined:
      throw new MeshError('bad_zds', 'request without payload');
  }
}

/** An acknowledgement; with an error text the request failed. */
export function encodeAck(error = ''): Uint8Array {
  return toBinary(
    WorkloadResponseSchema,
    create(WorkloadResponseSchema, {
      payload: { case: 'ack', value: { $typeName: 'istio.workload.zds.Ack', error } },
    }),
  );
}

/** Reads an acknowledgement: the error text, or undefined for success. */
export function decodeAck(bytes: Uint8Array): string | undefined {
  const { payload } = parse(() => fromBinary(WorkloadResponseSchema, bytes));
  if (payload.case !== 'ack') throw new MeshError('bad_zds', 'response is not an ack');
  return payload.value.error === '' ? undefined : payload.value.error;
}

function parse<T>(decode: () => T): T {
  try {
    return decode();
  } catch (err) {
    throw new MeshError('bad_zds', 'unreadable zds message', { cause: err });
  }
}
