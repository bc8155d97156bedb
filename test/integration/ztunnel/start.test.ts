// The node proxy as a process: what its variables make it do at the start.
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { systemClock } from '../../../common/clock.ts';
import { createRoot } from '../../../common/identity/ca.ts';
import { freePort } from '../../support/free-port.ts';

const dir = mkdtempSync(join(tmpdir(), 'ztunnel-start-'));
const rootFile = join(dir, 'root.pem');
const { certPem, keyPem } = createRoot('test', systemClock);
writeFileSync(rootFile, certPem + keyPem);
const ports = { admin: await freePort(), stats: await freePort(), readiness: await freePort() };

interface Proxy {
  readonly child: ChildProcess;
  readonly log: () => string;
}

const COMMAND: readonly string[] = [process.execPath, 'ztunnel/main.ts'];

function start(env: Readonly<Record<string, string>>, argv = COMMAND): Proxy {
  const [file = '', ...args] = argv;
  const child = spawn(file, args, {
    env: {
      ...process.env,
      XDS_ADDRESS: '',
      FAKE_CA: 'true',
      FAKE_CA_ROOT: rootFile,
      INPOD_UDS: join(dir, 'zds.sock'),
      ADMIN_PORT: String(ports.admin),
      STATS_PORT: String(ports.stats),
      READINESS_PORT: String(ports.readiness),
      ...env,
    },
  });
  let text = '';
  const collect = (chunk: Buffer): void => {
    text += chunk.toString();
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  return { child, log: () => text };
}

async function until(
  { log }: Proxy,
  what: string,
  check: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await check())) {
    if (Date.now() > deadline) assert.fail(`${what}: ${log()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits for a text in its log, which comes by a way of its own. */
function says(proxy: Proxy, text: string): Promise<void> {
  return until(proxy, text, () => proxy.log().includes(text));
}

async function dumpOf({ child, log }: Proxy): Promise<{ workloads: { name: string }[] }> {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline && child.exitCode === null) {
    try {
      const answer = await fetch(`http://localhost:${ports.admin}/config_dump`);
      const dump = (await answer.json()) as { workloads: { name: string }[] };
      if (dump.workloads.length > 0) return dump;
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return assert.fail(log());
}

describe('ztunnel process', () => {
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('may open as many files as the hard limit allows', async () => {
    const LOCAL_XDS =
      'workloads: [{uid: a, name: hello, namespace: shop, workloadIps: [10.0.0.1]}]';
    const proxy = start({ LOCAL_XDS }, ['sh', '-c', 'ulimit -Sn 512; exec "$@"', 'sh', ...COMMAND]);
    await dumpOf(proxy);
    const limits = readFileSync(`/proc/${proxy.child.pid ?? 0}/limits`, 'utf8');
    const [, soft, hard] = /^Max open files +(\S+) +(\S+)/m.exec(limits) ?? [];
    assert.notEqual(soft, '512');
    assert.equal(soft, hard);
    proxy.child.kill('SIGKILL');
    await once(proxy.child, 'exit');
  });

  it('takes its state from LOCAL_XDS, and says which variables have no effect', async () => {
    const proxy = start({
      LOCAL_XDS: 'workloads: [{uid: a, name: hello, namespace: shop, workloadIps: [10.0.0.1]}]',
      ISTIO_METAJSON_X: '{',
      AUTHZ_POLICY_INFO_LOGGING: 'true',
    });
    try {
      const { workloads } = await dumpOf(proxy);
      assert.deepEqual(
        workloads.map(({ name }) => name),
        ['hello'],
      );
      await says(proxy, 'ISTIO_METAJSON_X is left out: it is not JSON');
      await says(proxy, 'AUTHZ_POLICY_INFO_LOGGING is ignored');
    } finally {
      if (proxy.child.exitCode === null) {
        proxy.child.kill('SIGTERM');
        await once(proxy.child, 'exit');
      }
    }
  });

  it('follows the file of LOCAL_XDS_PATH; one that cannot be read changes nothing and is named', async () => {
    const path = join(dir, 'state.yaml');
    const write = (...names: string[]): void =>
      writeFileSync(
        path,
        `workloads: [${names.map((name) => `{uid: ${name}, name: ${name}, namespace: shop}`).join(', ')}]`,
      );
    write('one', 'two');
    const proxy = start({ LOCAL_XDS_PATH: path });
    const names = async (): Promise<string> =>
      (await dumpOf(proxy)).workloads.map(({ name }) => name).join();
    try {
      assert.equal(await names(), 'one,two');
      writeFileSync(path, 'workloads: [{uid: x, name: x, namespace: y, nod: z}]');
      await says(proxy, 'local state stays as it was');
      assert.match(proxy.log(), /state\.yaml: workload 0: .*nod/);
      assert.equal(await names(), 'one,two');
      write('two', 'three');
      await until(proxy, 'it has changed', async () => (await names()) === 'three,two');
    } finally {
      proxy.child.kill('SIGKILL');
      await once(proxy.child, 'exit');
    }
  });

  it('says how it is used, and its version; another word is an error', () => {
    const run = (...words: string[]): [number | null, string] => {
      const env = { PATH: process.env['PATH'], ISTIO_META_ISTIO_VERSION: '1.2.3' };
      const child = spawnSync(process.execPath, ['ztunnel/main.ts', ...words], { env });
      return [child.status, child.stdout.toString()];
    };
    assert.deepEqual(run('version'), [0, '1.2.3\n']);
    assert.deepEqual(run('version', 'ztunnel'), [0, '1.2.3\n'], 'a second word means nothing');
    const [code, usage] = run('help');
    assert.equal(code, 0);
    assert.match(usage, /^usage: ztunnel/);
    assert.deepEqual(run('serve'), [1, usage]);
  });

  it('does not start with a configuration it cannot follow, and names every mistake', async () => {
    const { child, log } = start({ TLS12_ENABLED: 'true', PACKET_MARK: 'x', IPV6_ENABLED: 'yes' });
    const [code] = (await once(child, 'close')) as [number];
    assert.equal(code, 1);
    assert.match(log(), /^ztunnel: invalid configuration: /);
    for (const name of ['TLS12_ENABLED', 'PACKET_MARK', 'IPV6_ENABLED'])
      assert.ok(log().includes(name), log());
    assert.doesNotMatch(log(), /\n\s+at /, 'no stack trace');
  });

  for (const [port, what] of [
    [ports.admin, 'ADMIN_PORT'],
    [ports.stats, 'STATS_PORT'],
    [ports.readiness, 'READINESS_PORT'],
  ] as const) {
    it(`does not start when the port of ${what} is taken, and says which it is`, async () => {
      const other = createServer().listen(port, what === 'ADMIN_PORT' ? '127.0.0.1' : '::');
      await once(other, 'listening');
      try {
        const { child, log } = start({});
        const [code] = (await once(child, 'close')) as [number];
        assert.equal(code, 1, log());
        const said =
          log()
            .split('\n')
            .findLast((line) => line.startsWith('ztunnel: ')) ?? '';
        assert.match(said, /EADDRINUSE|in use/);
        assert.ok(said.includes(String(port)), log());
        assert.doesNotMatch(log(), /\n\s+at /, 'no stack trace');
      } finally {
        other.close();
      }
    });
  }

  it('says at the start which rights it lacks for pods', async () => {
    const LOCAL_XDS =
      'workloads: [{uid: a, name: hello, namespace: shop, workloadIps: [10.0.0.1]}]';
    const none = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', ...COMMAND];
    const proxy = start({ LOCAL_XDS }, process.getuid?.() === 0 ? none : COMMAND);
    await dumpOf(proxy);
    await says(proxy, 'pods cannot be served: entering namespaces needs CAP_SYS_ADMIN');
    await says(proxy, 'pods cannot be served: SO_MARK needs CAP_NET_ADMIN');
    proxy.child.kill('SIGKILL');
    await once(proxy.child, 'exit');
  });

  it('starts without a mesh config file, and not with one that cannot be read', async () => {
    const LOCAL_XDS =
      'workloads: [{uid: a, name: hello, namespace: shop, workloadIps: [10.0.0.1]}]';
    const absent = start({ LOCAL_XDS, MESH_CONFIG_FILE: join(dir, 'absent') });
    await dumpOf(absent);
    absent.child.kill('SIGKILL');
    await once(absent.child, 'exit');

    const path = join(dir, 'mesh');
    for (const text of ['defaultConfig: {', 'defaultConfig: [1]', '- 1']) {
      writeFileSync(path, text);
      const { child, log } = start({ MESH_CONFIG_FILE: path });
      const [code] = (await once(child, 'close')) as [number];
      assert.equal(code, 1, text);
      assert.ok(log().startsWith(`ztunnel: invalid configuration: ${path}`), log());
    }
  });

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    it(`ends with 0 when told to by ${signal}`, async () => {
      const proxy = start({
        LOCAL_XDS: 'workloads: [{uid: a, name: hello, namespace: shop, workloadIps: [10.0.0.1]}]',
      });
      await dumpOf(proxy);
      proxy.child.kill(signal);
      assert.deepEqual(await once(proxy.child, 'exit'), [0, null], proxy.log());
    });
  }
});
