// One node: started by main.ts inside the node's netns, its configuration comes as the first IPC message. Ends
// its pods on SIGTERM, and when the supervisor is gone.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '../../common/errors.ts';
import { writePrimaryConfig } from './cni-chain.ts';
import type { NodeConfig } from './config.ts';
import { log } from './log.ts';
import { openContext } from './node-context.ts';
import { runNodeObject } from './node-object.ts';
import { NodeServices } from './node-services.ts';
import { PodSet } from './pod-set.ts';
import { KubeletServer } from './server.ts';

async function run(config: NodeConfig): Promise<void> {
  const context = await openContext(config);
  for (const dir of [context.rootfs, join(config.dir, 'pods')]) {
    rmSync(dir, { recursive: true, force: true });
  }
  mkdirSync(context.rootfs, { recursive: true });
  mkdirSync(context.logDir, { recursive: true });
  writePrimaryConfig(context.rootfs);
  const end = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'disconnect'] as const) {
      process.on(signal, () => resolve());
    }
  });
  const pods = new PodSet(context);
  const services = new NodeServices(context);
  const server = new KubeletServer({ token: config.kubeletToken, pods });
  await server.open(config.address, config.kubeletPort);
  const loops = [
    services.run(end.signal),
    runNodeObject(context, end.signal),
    pods.run(end.signal),
  ];
  await stopped;
  end.abort(new Error('the node stops'));
  await pods.stop();
  server.close();
  await Promise.all(loops);
  context.api.close();
}

process.once('message', (config: NodeConfig) => {
  run(config).then(
    () => process.exit(0),
    (err: unknown) => {
      log.error({ node: config.name, err: errorMessage(err) }, 'node failed');
      process.exit(1);
    },
  );
});
