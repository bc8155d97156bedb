// The CNI node agent (Istio's istio-cni-node): enrols this node's pods in the mesh and keeps them enrolled.
import { flushCompileCache } from 'node:module';
import { errorMessage } from '../../common/errors.ts';
import { createLoggerRoot } from '../../common/telemetry/logger.ts';
import { Agent } from './app.ts';
import { readConfig } from './config.ts';
import { SETTINGS } from './settings.ts';

const HELP = `The CNI node agent of the mesh. Configured by environment variables (docs/config.md):

${Object.keys(SETTINGS)
  .map((name) => `  ${name}`)
  .join('\n')}
`;

async function run(): Promise<void> {
  const config = readConfig(process.env);
  const root = createLoggerRoot({ level: config.logLevel });
  const logger = root.scope('cni');
  try {
    const agent = await Agent.start(config, root);
    // The next process finds its modules compiled, also when this one is killed.
    flushCompileCache();
    const signal = await new Promise<string>((resolve) => {
      for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => resolve(name));
    });
    logger.info({ signal }, 'stopping');
    await agent.close();
    process.exit(0);
  } catch (err) {
    logger.error({ err: errorMessage(err) }, 'cni agent failed');
    process.exit(1);
  }
}

if (process.argv.includes('--help')) process.stdout.write(HELP);
else {
  await run().catch((err: unknown) => {
    process.stderr.write(`cni agent: ${errorMessage(err)}\n`);
    process.exit(1);
  });
}
