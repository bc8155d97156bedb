// The statements in the order they are verified: those that only look come first, those that kill come last.
import { dns } from './dns.ts';
import { dualStack } from './dual-stack.ts';
import { encryption } from './encryption.ts';
import { identity } from './identity.ts';
import { joinLeave } from './join-leave.ts';
import { kills } from './kill.ts';
import { l4Deny } from './l4-deny.ts';
import { l7Deny } from './l7-deny.ts';
import { l7Sight } from './l7-sight.ts';
import { metrics } from './metrics.ts';
import { optOut } from './opt-out.ts';
import { probes } from './probes.ts';
import { rollouts } from './rollout.ts';
import { split } from './split.ts';
import type { Statement } from './statement.ts';
import { strict } from './strict.ts';

export const STATEMENTS: readonly Statement[] = [
  encryption,
  identity,
  joinLeave,
  l4Deny,
  split,
  l7Deny,
  optOut,
  strict,
  metrics,
  l7Sight,
  probes,
  dns,
  ...rollouts,
  dualStack,
  ...kills,
];
