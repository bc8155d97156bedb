// Entry of a data thread: a reactor, and the data plane that the control thread drives by messages. Messages are
// handled between turns of the reactor.
import { flushCompileCache } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { MeshError } from '../common/errors.ts';
import { BatchSink } from '../common/telemetry/log-output.ts';
import { createLoggerRoot } from '../common/telemetry/logger.ts';
import { Reactor } from '../engine/reactor/reactor.ts';
import { answerError, DataPlane } from './data-plane.ts';
import type { DataEvent, DataRequest, DataThreadOptions } from './messages.ts';

const port = parentPort;
if (port === null) throw new MeshError('internal', 'data-thread.ts runs as a worker thread only');
const { config, thread } = workerData as DataThreadOptions;
const emit = (event: DataEvent): void => port.postMessage(event);
const reactor: Reactor = new Reactor({
  onError: (err) => {
    // A handler that threw leaves its connection in an unknown state, but the others are sound.
    logger.error(
      { err: answerError(err), stack: err instanceof Error ? err.stack : undefined },
      'connection handler failed',
    );
  },
});
const loggers = createLoggerRoot({
  level: config.logLevel,
  format: config.logFormat,
  sink: new BatchSink(
    (text) => emit({ kind: 'log', text }),
    (delayMs, fn) => reactor.after(delayMs, fn),
  ),
});
const logger = loggers.scope('data');
const plane = new DataPlane({ config, thread }, reactor, loggers, emit);

port.on('message', (request: DataRequest) => {
  const { seq } = request;
  plane.handle(request).then(
    (answer) => emit({ kind: 'done', seq, ...answer }),
    (err: unknown) => emit({ kind: 'done', seq, error: answerError(err) }),
  );
});
reactor.start();
emit({ kind: 'ready', wakeFd: reactor.wakeFd });
flushCompileCache();
