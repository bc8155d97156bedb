// Opening a byte stream to an endpoint, whatever the way: an HBONE tunnel through its node proxy, or plain TCP.
import type { Duplex } from '../../engine/reactor/duplex.ts';
import type { Endpoint } from '../cluster/endpoint.ts';

/** Why no stream could be opened. */
export class DialError extends Error {
  readonly code: 'connect' | 'timeout' | 'identity' | 'refused';

  constructor(code: DialError['code'], detail: string) {
    super(detail);
    this.name = 'DialError';
    this.code = code;
  }
}

/** Opens a stream; rejects with {@link DialError}. */
export type Dial = (endpoint: Endpoint, timeoutMs: number) => Promise<Duplex>;
