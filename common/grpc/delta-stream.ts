// The delta xDS stream over grpc-js: what `OpenDeltaStream` of common/xds/delta-client.ts asks for.
// A new channel is made for each stream, so that a changed root file is used at the next connect.
import { create, toBinary } from '@bufbuild/protobuf';
import { connectivityState, status } from '@grpc/grpc-js';
import type { Client, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { errorMessage } from '../errors.ts';
import type { DeltaStream, OpenDeltaStream, StreamEnd } from '../xds/delta-client.ts';
import { readDeltaPush } from '../xds/delta-push.ts';
import type { DeltaPush } from '../xds/delta-push.ts';
import { DeltaDiscoveryRequestSchema } from '../xds/gen/discovery_pb.ts';
import type { DeltaDiscoveryRequest } from '../xds/gen/discovery_pb.ts';
import { callMetadata, openChannel } from './channel.ts';
import type { ControlPlaneAddress } from './channel.ts';

/** A stream that is not connected after so long has ended (Istio: the same). */
const CONNECT_TIMEOUT_MS = 5000;
const METHOD = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';

/** Streams to `target`, one channel each. */
export function deltaStreamOpener(target: ControlPlaneAddress): OpenDeltaStream {
  return (events) => {
    let channel: Client | undefined;
    let hasEnded = false;
    let isOpen = false;
    let connecting: NodeJS.Timeout | undefined;
    const end = (result: StreamEnd): void => {
      if (hasEnded) return;
      hasEnded = true;
      clearTimeout(connecting);
      channel?.close();
      events.onEnd(result);
    };
    try {
      channel = openChannel(target);
      const call: ClientDuplexStream<DeltaDiscoveryRequest, DeltaPush> =
        channel.makeBidiStreamRequest(
          METHOD,
          (message: DeltaDiscoveryRequest) =>
            Buffer.from(toBinary(DeltaDiscoveryRequestSchema, message)),
          readDeltaPush,
          callMetadata(target),
        );
      connecting = setTimeout(() => {
        if (channel?.getChannel().getConnectivityState(false) === connectivityState.READY) return;
        call.cancel();
        const detail = `no connection within ${CONNECT_TIMEOUT_MS / 1000} s`;
        end({ reason: 'ConnectionError', detail });
      }, CONNECT_TIMEOUT_MS);
      call.on('metadata', () => (isOpen = true));
      call.on('data', (push: DeltaPush) => events.onResponse(push));
      call.on('error', (err: ServiceError) => end(classifyEnd(err, isOpen)));
      call.on('end', () => end({ reason: 'Complete', detail: 'stream ended' }));
      return streamOf(call, () => end({ reason: 'Complete', detail: 'closed by us' }));
    } catch (err) {
      const detail = errorMessage(err);
      // The caller must have the stream before it hears of its end.
      setImmediate(() => end({ reason: 'ConnectionError', detail }));
      return { send: () => undefined, close: () => undefined };
    }
  };
}

function streamOf(
  call: ClientDuplexStream<DeltaDiscoveryRequest, DeltaPush>,
  onClosed: () => void,
): DeltaStream {
  return {
    send: (request) => {
      if (!call.destroyed) call.write(create(DeltaDiscoveryRequestSchema, request));
    },
    close: () => {
      call.cancel();
      onClosed();
    },
  };
}

/** What grpc-js says of a connection that was lost or is going away, and what Go's and Rust's servers call it. */
const LOST =
  /Connection dropped|transport is closing|received prior goaway|GOAWAY|RST_STREAM|ECONNRESET/;

/** The label of an end: an orderly restart of the other side is told from a failure. */
function classifyEnd({ code, details }: ServiceError, isOpen: boolean): StreamEnd {
  const detail = `${status[code]}: ${details}`;
  if (!isOpen) return { reason: 'ConnectionError', detail };
  switch (code) {
    case status.UNKNOWN:
    case status.CANCELLED:
    case status.DEADLINE_EXCEEDED:
      return { reason: 'Reconnect', detail };
    case status.UNAVAILABLE:
      return { reason: LOST.test(details) ? 'Reconnect' : 'Error', detail };
    default:
      return { reason: 'Error', detail };
  }
}
