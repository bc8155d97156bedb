// Entry of the control plane. SIGTERM and SIGINT end it in order; the proxies keep working without it.
import { flushCompileCache } from 'node:module';
import { errorMessage } from '../common/errors.ts';
import { startApp } from './app.ts';
import { readConfig } from './config.ts';

const USAGE = `usage: node controlplane/main.ts [--help | --print-config]
Control plane of the mesh: compiles Kubernetes, Istio and Gateway API resources for the proxies, serves them by
delta xDS, issues certificates, deploys waypoints. Configured by environment variables, see controlplane/config.ts;
outside a pod set KUBECONFIG.
`;

function fail(err: unknown): never {
  const stack = err instanceof Error && err.name !== 'MeshError' ? err.stack : undefined;
  const line = { level: 'error', scope: 'app', message: 'fatal', err: errorMessage(err), stack };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  process.exit(1);
}

async function main(args: readonly string[]): Promise<void> {
  if (args.includes('--help')) {
    process.stdout.write(USAGE);
    return;
  }
  const config = readConfig(process.env);
  if (args.includes('--print-config')) {
    process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
    return;
  }
  const stop = new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  const app = startApp(config);
  // The next process finds its modules compiled, also when this one is killed.
  app.then(() => flushCompileCache(), fail);
  await stop;
  // One that is still waiting for the API has nothing to close.
  const started = await Promise.race([app, Promise.resolve(undefined)]);
  await started?.close();
  process.exit(0);
}

process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
await main(process.argv.slice(2)).catch(fail);
