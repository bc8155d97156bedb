import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';

const dir = mkdtempSync(join(tmpdir(), 'ambient-apiserver-'));
const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(dir, { recursive: true });
});

function run(args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, ['local/apiserver/main.ts', ...args]);
  children.add(child);
  child.on('exit', () => children.delete(child));
  return child;
}

async function outputOf(child: ChildProcess): Promise<{ code: unknown; text: string }> {
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (part: string) => (text += part));
  }
  const [code] = (await once(child, 'close')) as [unknown];
  return { code, text };
}

describe('the API server’s process', () => {
  it('prints one JSON line when it serves, writes the kubeconfig for its owner alone, and ends on SIGTERM', async () => {
    const kubeconfig = join(dir, 'kubeconfig');
    const child = run([
      '--data',
      join(dir, 'data'),
      '--listen',
      '127.0.0.1:0',
      '--kubeconfig-out',
      kubeconfig,
    ]);
    const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer];
    const ready = JSON.parse(line.toString()) as { ready: boolean; url: string };
    assert.equal(ready.ready, true);
    const config = JSON.parse(readFileSync(kubeconfig, 'utf8')) as {
      clusters: [{ cluster: { server: string } }];
    };
    assert.equal(config.clusters[0].cluster.server, ready.url);
    assert.equal(statSync(kubeconfig).mode & 0o777, 0o600);
    assert.equal(statSync(join(dir, 'data', 'ca.key')).mode & 0o777, 0o600);
    const second = await outputOf(run(['--data', join(dir, 'data'), '--listen', '127.0.0.1:0']));
    assert.equal(second.code, 1);
    assert.match(second.text, /in use by another API server/);
    child.kill('SIGTERM');
    const [code] = (await once(child, 'exit')) as [number];
    assert.equal(code, 0);
  });

  it('explains itself and refuses bad flags', async () => {
    const help = await outputOf(run(['--help']));
    assert.equal(help.code, 0);
    assert.match(help.text, /--listen ADDR:PORT/);
    for (const [flag, value] of [
      ['--listen', 'here'],
      ['--service-cidr', '10.0.0.0/30'],
      ['--advertise', 'x'],
    ] as const) {
      const { code, text } = await outputOf(run([flag, value]));
      assert.equal(code, 1);
      assert.match(text, new RegExp(`${flag} needs`));
    }
  });

  it('says which address is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { code, text } = await outputOf(
      run(['--data', join(dir, 'taken'), '--listen', `127.0.0.1:${port}`]),
    );
    assert.equal(code, 1);
    assert.match(text, new RegExp(`address already in use 127.0.0.1:${port}`));
    other.close();
  });
});
