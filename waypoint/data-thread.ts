// Entry of a data thread: a reactor, and the data plane that the control thread drives by messages. Messages are
// handled between turns of the reactor.
import { flushCompileCache } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { errorMessage, MeshError } from '../common/errors.ts';
import { createLoggerRoot } from '../common/telemetry/logger.ts';
import { Reactor } from '../engine/reactor/reactor.ts';
import { DataPlane } from './data-plane.ts';
import type { DataEvent, DataRequest, DataThreadOptions } from './messages.ts';

const port = parentPort;
if (port === null) throw new MeshError('internal', 'data-thread.ts runs as a worker thread only');
const { config } = workerData as DataThreadOptions;
const emit = (event: DataEvent): void => port.postMessage(event);
const loggers = createLoggerRoot({ level: config.logLevel });
const logger = loggers.scope('data');
const reactor = new Reactor({
  onError: (err) => {
    // A handler that threw leaves its connection in an unknown state, but the others are sound.
    logger.error(
      { err: errorMessage(err), stack: err instanceof Error ? err.stack : undefined },
      'connection handler failed',
    );
  },
});
const plane = new DataPlane(config, reactor, loggers, emit);

port.on('message', (request: DataRequest) => {
  const { seq } = request;
  plane.handle(request).then(
    (answer) => emit({ kind: 'done', seq, ...answer }),
    (err: unknown) => emit({ kind: 'done', seq, error: errorMessage(err) }),
  );
});
reactor.start();
emit({ kind: 'ready', wakeFd: reactor.wakeFd });
flushCompileCache();
