// The node proxy's program: the proxy itself, or the holder that starts proxies (ztunnel/holder). Each loads only its own
// modules. SIGTERM and SIGINT drain; a second SIGINT ends at once. Configuration: ztunnel/config.ts.
import { mkdtempSync, rmSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorMessage } from '../common/errors.ts';
import type { App } from './app.ts';

const USAGE = `usage: ztunnel [proxy|holder|version|help]

The node proxy of the mesh. It is configured by environment variables with Istio's
names (XDS_ADDRESS, CA_ADDRESS, NODE_NAME, INPOD_UDS, ...); see ztunnel/config.ts.

proxy    serves
holder   keeps the pods' sockets and runs a proxy beside it, so that the proxy can
         crash or be replaced (SIGUSR2) without a refused connection
`;

function fail(err: unknown): never {
  process.stderr.write(`ztunnel: ${errorMessage(err)}\n`);
  process.exit(1);
}

async function runProxy(): Promise<void> {
  const [{ readConfig }, { startApp }] = await Promise.all([
    import('./config.ts'),
    import('./app.ts'),
  ]);
  const config = readConfig(process.env);
  const state: { app?: App; isDraining: boolean } = { isDraining: false };
  const shutDown = (isReplaced = false): void => {
    if (state.isDraining) return;
    state.isDraining = true;
    if (state.app === undefined) process.exit(0);
    state.app.drain(isReplaced).then(() => process.exit(0), fail);
  };
  // Signals to a whole process group come here too; the holder gives up its sockets first and then says what to do.
  const onSignal = config.holderFd === undefined ? () => shutDown() : () => undefined;
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', () => {
    if (state.isDraining) process.exit(0);
    onSignal();
  });
  state.app = await startApp(config, { onQuit: shutDown, onFatal: fail });
}

/**
 * Where a proxy finds what the one before it compiled and counted. Not a directory that others could write to. Undefined
 * where there is no room for it.
 */
function privateDir(): string | undefined {
  try {
    const path = mkdtempSync(join(tmpdir(), 'ztunnel-'));
    process.on('exit', () => rmSync(path, { recursive: true, force: true }));
    return path;
  } catch (err) {
    process.stderr.write(
      `ztunnel: no directory for proxies to hand over in: ${errorMessage(err)}\n`,
    );
    return undefined;
  }
}

async function runHolder(): Promise<void> {
  const [{ Holder }, { PROXY_NODE_FLAGS }] = await Promise.all([
    import('./holder/holder.ts'),
    import('./holder/node-flags.ts'),
  ]);
  const dir = privateDir();
  const holder = new Holder({
    argv: [import.meta.filename, 'proxy'],
    nodeArgs: PROXY_NODE_FLAGS,
    env: {
      ...(dir === undefined ? {} : { NODE_COMPILE_CACHE: dir, HOLDER_DIR: dir }),
      ...process.env,
    },
    // The shape of the proxies' lines, without loading their logger.
    log: (level, fields, message) => {
      const line = { level, time: new Date().toISOString(), scope: 'holder', ...fields, message };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    },
    exit: (code) => process.exit(code),
  });
  flushCompileCache();
  let isStopping = false;
  const stop = (): void => {
    isStopping = true;
    holder.stop();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', () => {
    if (isStopping) holder.kill();
    else stop();
  });
  process.on('SIGUSR2', () => holder.replace());
  holder.start();
}

const [command = 'proxy'] = process.argv.slice(2);
if (command === 'version')
  process.stdout.write(`${process.env['ISTIO_META_ISTIO_VERSION'] ?? 'unknown'}\n`);
else if (command === 'proxy') runProxy().catch(fail);
else if (command === 'holder') runHolder().catch(fail);
else {
  process.stdout.write(USAGE);
  process.exitCode = command === 'help' || command === '--help' ? 0 : 1;
}
