// The API server of the local cluster as a process, for tests of what talks to one.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeClient } from '../../common/kube/client.ts';
import { loadConnection } from '../../common/kube/connection.ts';

/** A running one, empty at the start. */
export interface LocalApiServer {
  readonly kube: KubeClient;
  /** Ends it and removes what it kept. */
  stop(): Promise<void>;
}

/** Starts it; resolves when it is ready. */
export async function startApiServer(): Promise<LocalApiServer> {
  const dir = mkdtempSync(join(tmpdir(), 'ambient-api-'));
  const kubeconfig = join(dir, 'kubeconfig');
  const args = ['--data', join(dir, 'api'), '--listen', '127.0.0.1:0'];
  const api = spawn(
    process.execPath,
    ['local/apiserver/main.ts', ...args, '--kubeconfig-out', kubeconfig],
    { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await new Promise<void>((resolve, reject) => {
    let output = '';
    api.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('"ready"')) resolve();
    });
    api.once('exit', () => reject(new Error(`the api server ended: ${output}`)));
  });
  const kube = new KubeClient(await loadConnection({ kubeconfig }));
  const stop = async (): Promise<void> => {
    kube.close();
    api.kill('SIGTERM');
    if (api.exitCode === null) await once(api, 'exit');
    rmSync(dir, { recursive: true, force: true });
  };
  return { kube, stop };
}
