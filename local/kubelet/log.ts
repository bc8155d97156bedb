// The kubelet's logger: one scope for all its processes.
import { createLoggerRoot } from '../../common/telemetry/logger.ts';

export const log = createLoggerRoot().scope('kubelet');
