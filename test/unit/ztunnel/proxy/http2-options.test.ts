// What a tunnel's HTTP/2 session is told when nothing is configured, and when it is.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readConfig } from '../../../../ztunnel/config.ts';
import { sessionOptions } from '../../../../ztunnel/proxy/http2-options.ts';

describe('HTTP/2 of a tunnel', () => {
  it('is pinged after 10 s, and has 20 s to answer, on both ends', () => {
    for (const isServer of [true, false]) {
      const { pingIntervalMs, pingTimeoutMs } = sessionOptions(readConfig({}), isServer);
      assert.deepEqual([pingIntervalMs, pingTimeoutMs], [10_000, 20_000]);
    }
  });

  it('has the windows and frames that are configured, on both ends', () => {
    const config = readConfig({
      HTTP2_STREAM_WINDOW_SIZE: '100000',
      HTTP2_CONNECTION_WINDOW_SIZE: '200000',
      HTTP2_FRAME_SIZE: '20000',
    });
    for (const isServer of [true, false]) {
      assert.partialDeepStrictEqual(sessionOptions(config, isServer).settings, {
        initialWindowSize: 100_000,
        connectionWindowSize: 200_000,
        maxFrameSize: 20_000,
      });
    }
  });
});
