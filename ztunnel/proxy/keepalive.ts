// TCP keepalive and user timeout of the sockets we dial across the network, as configured. Within a pod there is nothing to detect: the
// kernel that would answer the probes is the one that sends them.
import type { ProxyContext } from './proxy-context.ts';

/** What of the configuration says when a dead peer is given up. */
export interface DeathDetection {
  readonly keepalive?: { idleSec: number; intervalSec: number; probes: number };
  readonly userTimeoutMs?: number;
}

// Made once for a configuration: thousands of connects may wait at once.
const detections = new WeakMap<ProxyContext['config'], DeathDetection>();

/** Keepalive options of dialled sockets. */
export function keepaliveOf({ config }: Pick<ProxyContext, 'config'>): DeathDetection {
  const known = detections.get(config) ?? detectionOf(config);
  detections.set(config, known);
  return known;
}

function detectionOf(config: ProxyContext['config']): DeathDetection {
  const { keepaliveSec: keepalive, userTimeoutMs } = config;
  const timeout = userTimeoutMs === undefined ? {} : { userTimeoutMs };
  if (keepalive === undefined) return timeout;
  return {
    ...timeout,
    keepalive: {
      idleSec: keepalive.idle,
      intervalSec: keepalive.interval,
      probes: keepalive.probes,
    },
  };
}
