// TCP keepalive of the sockets we dial across the network, as configured. Within a pod there is nothing to detect: the
// kernel that would answer the probes is the one that sends them.
import type { ProxyContext } from './proxy-context.ts';

/** Keepalive options of dialled sockets. */
export function keepaliveOf(context: ProxyContext): {
  keepalive?: { idleSec: number; intervalSec: number; probes: number };
} {
  const keepalive = context.config.keepaliveSec;
  if (keepalive === undefined) return {};
  return {
    keepalive: {
      idleSec: keepalive.idle,
      intervalSec: keepalive.interval,
      probes: keepalive.probes,
    },
  };
}
