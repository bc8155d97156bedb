// HTTP/2 error codes (RFC 9113 section 7) and how they end a stream.
import type { CloseReason } from '../reactor/duplex.ts';
import { CLOSED_OK } from '../reactor/stream-error.ts';

export const NO_ERROR = 0;
export const PROTOCOL_ERROR = 1;
export const INTERNAL_ERROR = 2;
export const FLOW_CONTROL_ERROR = 3;
export const STREAM_CLOSED = 5;
export const REFUSED_STREAM = 7;
export const CANCEL = 8;
export const ENHANCE_YOUR_CALM = 11;

/** The reason for a stream closed by the peer with `errorCode`; refused after GOAWAY it was not processed at all. */
export function reasonFromErrorCode(
  errorCode: number,
  isComplete: boolean,
  isGoawayReceived: boolean,
): CloseReason {
  if (isComplete && errorCode === NO_ERROR) return CLOSED_OK;
  switch (errorCode) {
    case NO_ERROR:
    case CANCEL:
    case STREAM_CLOSED:
      return { code: 'reset', detail: `stream reset by peer, code ${errorCode}` };
    case REFUSED_STREAM:
      return isGoawayReceived
        ? { code: 'goaway', detail: 'session is draining' }
        : { code: 'refused', detail: 'stream refused by peer' };
    default:
      return { code: 'protocol', detail: `stream reset by peer, code ${errorCode}` };
  }
}

/** The reason for a request that was reset before its headers were complete. */
export function reasonOfRejection(headerBytes: number, maxHeaderBytes: number): CloseReason {
  if (headerBytes <= maxHeaderBytes) return { code: 'protocol', detail: 'malformed request' };
  return { code: 'limit', detail: `request headers exceed ${maxHeaderBytes} bytes` };
}

/** The reason for a session that nghttp2 wants nothing of any more; it ends by itself when the peer breaks HTTP/2. */
export function reasonOfEnd(isOrderly: boolean): CloseReason {
  if (isOrderly) return { code: 'closed', detail: 'session is over' };
  return { code: 'protocol', detail: 'peer broke http/2' };
}
