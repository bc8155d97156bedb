// Starting HTTP/2 sessions (RFC 9113) over any Duplex: TLS or TCP connections, or a tunnel's stream.
import type { Duplex } from '../reactor/duplex.ts';
import type { Reactor } from '../reactor/reactor.ts';
import { OwnedSession } from './owned-session.ts';
import type { Http2Session, Http2SessionEvents, Http2SessionOptions } from './types.ts';

export { http2SessionCount } from './owned-session.ts';

/** Starts a server session on `transport`, which it takes over. Streams are paused until `resume()`. */
export function serveHttp2(
  reactor: Reactor,
  transport: Duplex,
  options: Http2SessionOptions,
  events: Http2SessionEvents,
): Http2Session {
  return new OwnedSession(true, { reactor, transport }, options, events);
}

/** Starts a client session on `transport`, which it takes over. Streams are paused until `resume()`. */
export function connectHttp2(
  reactor: Reactor,
  transport: Duplex,
  options: Http2SessionOptions,
  events: Omit<Http2SessionEvents, 'onStream'>,
): Http2Session {
  return new OwnedSession(false, { reactor, transport }, options, {
    ...events,
    onStream: () => undefined,
    onGoaway: () => events.onGoaway(),
    onClose: (reason) => events.onClose(reason),
  });
}
