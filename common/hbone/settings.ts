// HTTP/2 parameters of HBONE, the same values as Istio's ztunnel sends.
import type { Http2SessionOptions } from '../../engine/http2/types.ts';

const MIB = 1024 * 1024;
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 20_000;

/** Side that opens tunnels. */
export const CLIENT_SESSION: Http2SessionOptions = {
  settings: {
    enablePush: false,
    initialWindowSize: 4 * MIB,
    connectionWindowSize: 16 * MIB,
    maxFrameSize: MIB,
    maxHeaderListSize: 16 * 1024,
  },
  pingIntervalMs: PING_INTERVAL_MS,
  pingTimeoutMs: PING_TIMEOUT_MS,
};

/** Side that accepts tunnels. */
export const SERVER_SESSION: Http2SessionOptions = {
  settings: {
    initialWindowSize: 4 * MIB,
    connectionWindowSize: 16 * MIB,
    maxFrameSize: MIB,
    maxHeaderListSize: 64 * 1024,
    maxConcurrentStreams: 200,
  },
  pingIntervalMs: PING_INTERVAL_MS,
  pingTimeoutMs: PING_TIMEOUT_MS,
};
