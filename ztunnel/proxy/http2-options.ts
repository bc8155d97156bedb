// HTTP/2 parameters of HBONE, both sides, as Istio's ztunnel has them.
import type { Http2SessionOptions } from '../../engine/http2/types.ts';
import type { Config } from '../config.ts';

const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 20_000;

/** Options of a tunnel's session. */
export function sessionOptions(config: Config, isServer: boolean): Http2SessionOptions {
  return {
    settings: {
      initialWindowSize: config.streamWindowBytes,
      connectionWindowSize: config.connectionWindowBytes,
      maxFrameSize: config.frameBytes,
      maxHeaderListSize: isServer ? 64 * 1024 : 16 * 1024,
      ...(isServer ? { maxConcurrentStreams: 200 } : { enablePush: false }),
    },
    pingIntervalMs: PING_INTERVAL_MS,
    pingTimeoutMs: PING_TIMEOUT_MS,
  };
}
