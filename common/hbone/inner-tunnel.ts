// The inner tunnel of double HBONE: TLS and HTTP/2 over the stream of an outer tunnel, with one CONNECT. Not pooled: the
// network gateway balances outer streams, so a kept inner connection would pin its user to one remote pod.
import { connectHttp2 } from '../../engine/http2/http2-session.ts';
import type { HeaderList, Http2Session, Http2SessionOptions } from '../../engine/http2/types.ts';
import { closeWatcher, type Duplex } from '../../engine/reactor/duplex.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import { startStreamTls } from '../../engine/tls/stream-tls.ts';
import type { TlsContext } from '../../engine/tls/tls-context.ts';
import { errorMessage } from '../errors.ts';
import { firstIdentity, verifyExpected } from './peer-identity.ts';
import type { Tunnel, TunnelFailure } from './types.ts';

/** What the inner tunnel is for. */
export interface InnerTunnelOptions {
  readonly context: TlsContext;
  readonly authority: string;
  readonly headers: HeaderList;
  readonly expectedIdentities: readonly string[];
  readonly session: Http2SessionOptions;
  /** For the handshake, and again for the answer to CONNECT. */
  readonly timeoutMs: number;
}

/** Opens it on a paused stream, which is taken over. Never rejects; `release` of the tunnel ends the connection. */
export async function openInnerTunnel(
  reactor: Reactor,
  outer: Duplex,
  options: InnerTunnelOptions,
): Promise<Tunnel | TunnelFailure> {
  let refusal: string | undefined;
  try {
    const tls = await startStreamTls(reactor, outer, options.context, {
      handshakeTimeoutMs: options.timeoutMs,
      verifyPeer: (uriSans) => (refusal = verifyExpected(options.expectedIdentities, uriSans)),
    });
    const session = connectHttp2(reactor, tls, options.session, {
      onGoaway: () => undefined,
      onClose: () => undefined,
    });
    const result = await request(reactor, session, options);
    if ('code' in result) {
      session.close(result.detail);
      return result;
    }
    const serverIdentity = firstIdentity(tls.peer.uriSans);
    return { ...result, serverIdentity, release: () => session.close('done') };
  } catch (err) {
    if (refusal !== undefined) return { code: 'identity', detail: refusal };
    if (!(err instanceof StreamError)) return { code: 'h2', detail: errorMessage(err) };
    const { code, detail } = err.reason;
    return { code: code === 'tls' || code === 'timeout' ? code : 'h2', detail };
  }
}

type Answer = Pick<Tunnel, 'stream' | 'responseHeaders'>;

function request(
  reactor: Reactor,
  session: Http2Session,
  { authority, headers, timeoutMs }: InnerTunnelOptions,
): Promise<Answer | TunnelFailure> {
  return new Promise((resolve) => {
    const timer = reactor.after(timeoutMs, () => {
      resolve({ code: 'timeout', detail: 'no answer to the inner CONNECT' });
    });
    const settle = (result: Answer | TunnelFailure): void => {
      timer.cancel();
      resolve(result);
    };
    const list: HeaderList = [[':method', 'CONNECT'], [':authority', authority], ...headers];
    const stream = session.request(list, false, {
      onHeaders: (answer) => {
        const status = Number(answer.find(([name]) => name === ':status')?.[1] ?? 0);
        if (status >= 100 && status < 200) return;
        if (status === 200) settle({ stream, responseHeaders: answer });
        else settle({ code: 'status', detail: `http status: ${status}`, status });
      },
      onTrailers: () => undefined,
    });
    stream.handler = closeWatcher(({ detail }) => settle({ code: 'h2', detail }));
  });
}
