// The node proxy. SIGTERM and SIGINT drain; a second SIGINT ends at once. Configuration: ztunnel/config.ts.
import { errorMessage } from '../common/errors.ts';
import { startApp } from './app.ts';
import type { App } from './app.ts';
import { readConfig } from './config.ts';

const USAGE = `usage: ztunnel [proxy|version|--help]

The node proxy of the mesh. It is configured by environment variables with Istio's
names (XDS_ADDRESS, CA_ADDRESS, NODE_NAME, INPOD_UDS, ...); see ztunnel/config.ts.
`;

function fail(err: unknown): never {
  process.stderr.write(`ztunnel: ${errorMessage(err)}\n`);
  process.exit(1);
}

async function run(): Promise<void> {
  const config = readConfig(process.env);
  const state: { app?: App; isDraining: boolean } = { isDraining: false };
  const shutDown = (): void => {
    if (state.isDraining) return;
    state.isDraining = true;
    if (state.app === undefined) process.exit(0);
    state.app.drain().then(() => process.exit(0), fail);
  };
  process.on('SIGTERM', shutDown);
  process.on('SIGINT', () => {
    if (state.isDraining) process.exit(0);
    shutDown();
  });
  state.app = await startApp(config, { onQuit: shutDown, onFatal: fail });
}

const [command = 'proxy'] = process.argv.slice(2);
if (command === 'version')
  process.stdout.write(`${process.env['ISTIO_META_ISTIO_VERSION'] ?? 'unknown'}\n`);
else if (command === 'proxy') run().catch(fail);
else process.stdout.write(USAGE);
