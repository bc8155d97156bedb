// TCP keepalive and user timeout of sockets whose peer may be across the network, as configured: dialled ones, and those accepted on
// 15001 and 15006. For what we dial within a pod there is nothing to detect: the kernel that would answer the probes sends them.
import type { Config } from '../config.ts';

/** What of the configuration says when a dead peer is given up. */
export interface DeathDetection {
  readonly keepalive?: { idleSec: number; intervalSec: number; probes: number };
  readonly userTimeoutMs?: number;
}

/** The parts of the configuration that say so. */
export type KeepaliveConfig = Pick<Config, 'keepaliveSec' | 'userTimeoutMs'>;

// Made once for a configuration: thousands of connects may wait at once.
const detections = new WeakMap<KeepaliveConfig, DeathDetection>();

/** Keepalive options by configuration. */
export function keepaliveOf(config: KeepaliveConfig): DeathDetection {
  const known = detections.get(config) ?? detectionOf(config);
  detections.set(config, known);
  return known;
}

function detectionOf(config: KeepaliveConfig): DeathDetection {
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
