// The API server's process: flags, signals, exit codes. Prints one JSON line when it serves.
import { systemClock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { createLoggerRoot } from '../../common/telemetry/logger.ts';
import { startApiServer } from './app.ts';
import { HELP, parseFlags } from './config.ts';

async function main(args: readonly string[]): Promise<void> {
  const config = parseFlags(args);
  if (config === undefined) {
    process.stdout.write(`${HELP}\n`);
    return;
  }
  const log = createLoggerRoot().scope('apiserver');
  process.on('uncaughtException', (err) => {
    log.error({ err }, 'unexpected failure');
    process.exit(1);
  });
  const server = await startApiServer(config, systemClock, log);
  log.info({ url: server.url, addresses: server.addresses, ready: true }, 'api server ready');
  const stop = (): void => {
    server.close().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

main(process.argv.slice(2)).catch((err: unknown) => {
  process.stderr.write(`apiserver: ${errorMessage(err)}\n`);
  process.exit(1);
});
