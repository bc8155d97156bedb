// The local cluster's nodes without a mesh: pods, services, DNS, probes, exec, restarts, what a killed run leaves.
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { isIPv4, isIPv6 } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { KubeClient } from '../../../common/kube/client.ts';
import { loadConnection } from '../../../common/kube/connection.ts';
import { execInPod } from '../../../common/kube/exec.ts';

const REPOSITORY = join(import.meta.dirname, '../../..');
const TOKEN = 'test-token';
const PROBE_DELAY_MS = 20_000;

interface PodObject {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly restartCount: number;
      readonly containerID?: string;
    }[];
  };
}

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + PROBE_DELAY_MS;
  for (;;) {
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
    assert.ok(Date.now() < deadline, `${what} did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const serverScript =
  "const{createServer}=require('http');createServer((q,r)=>r.end(process.env.WHO+' '+q.socket.remoteAddress)).listen(8080)";

function pod(name: string, nodeName: string, spec: object): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels: { app: name } },
    spec: { nodeName, terminationGracePeriodSeconds: 2, ...spec },
  };
}

const WEB = pod('web', 'test-a', {
  containers: [
    {
      name: 'web',
      image: 'none',
      command: [process.execPath, '-e', serverScript],
      env: [{ name: 'WHO', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
      readinessProbe: { httpGet: { port: 8080 } },
    },
  ],
});
const CLIENT = pod('client', 'test-b', {
  initContainers: [
    { name: 'first', image: 'none', command: ['sh', '-c', 'echo started >/shared/first'] },
  ].map((container) => ({ ...container, volumeMounts: [{ name: 's', mountPath: '/shared' }] })),
  containers: [
    {
      name: 'main',
      image: 'none',
      command: ['sleep', '1000'],
      volumeMounts: [
        { name: 's', mountPath: '/var/lib/shared' },
        { name: 'c', mountPath: '/etc/settings' },
      ],
    },
  ],
  volumes: [
    { name: 's', emptyDir: {} },
    { name: 'c', configMap: { name: 'settings' } },
  ],
});

describe('local nodes', () => {
  const dir = mkdtempSync(join(tmpdir(), 'kubelet-'));
  const state = join(dir, 'state');
  const kubeconfig = join(dir, 'kubeconfig');
  const children = new Set<ChildProcess>();
  let kubelet: ChildProcess;
  let api: KubeClient;

  function start(script: string, ...args: string[]): ChildProcess {
    const child = spawn(process.execPath, [join(REPOSITORY, script), ...args], {
      stdio: ['ignore', process.env['TEST_LOGS'] === undefined ? 'ignore' : 2, 'inherit'],
    });
    children.add(child);
    child.on('exit', () => children.delete(child));
    return child;
  }

  const startKubelet = (): ChildProcess =>
    start(
      'local/kubelet/main.ts',
      ...['--kubeconfig', kubeconfig, '--state', state],
      ...['--nodes', 'test-a,test-b', '--kubelet-token', TOKEN],
    );

  const get = (name: string): Promise<PodObject> =>
    api.json<PodObject>({ path: `/api/v1/namespaces/default/pods/${name}` });

  const ready = (name: string): Promise<PodObject> =>
    until(`pod ${name} ready`, async () => {
      const object = await get(name);
      const isReady = object.status?.conditions?.some(
        ({ type, status }) => type === 'Ready' && status === 'True',
      );
      return isReady === true ? object : undefined;
    });

  async function exec(podName: string, ...command: string[]): Promise<[number, string]> {
    const stdout = new PassThrough();
    const output = text(stdout);
    const target = { namespace: 'default', pod: podName, container: containerOf(podName), command };
    const connection = await loadConnection({ kubeconfig });
    const code = await execInPod(connection, target, {
      stdout,
      stderr: new PassThrough().resume(),
      stdin: null,
      isTty: false,
    });
    stdout.end();
    return [code, await output];
  }

  const containerOf = (name: string): string => (name === 'web' ? 'web' : 'main');
  const create = (path: string, body: object): Promise<unknown> =>
    api.json({ method: 'POST', path, body });

  before(async () => {
    writeFileSync(join(dir, 'token'), TOKEN);
    start(
      'local/apiserver/main.ts',
      ...['--data', join(dir, 'data'), '--listen', '127.0.0.1:0'],
      ...['--kubeconfig-out', kubeconfig, '--kubelet-token', join(dir, 'token')],
    );
    await until('the kubeconfig', async () => (existsSync(kubeconfig) ? true : undefined));
    api = new KubeClient(await loadConnection({ kubeconfig }));
    kubelet = startKubelet();
    await until('nodes', async () => {
      const { items } = await api.json<{ items: unknown[] }>({ path: '/api/v1/nodes' });
      return items.length === 2 ? true : undefined;
    });
    await create('/api/v1/namespaces/default/configmaps', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'settings' },
      data: { colour: 'green' },
    });
    await create('/api/v1/namespaces/default/services', {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
    });
    for (const object of [WEB, CLIENT]) await create('/api/v1/namespaces/default/pods', object);
    for (const name of ['web', 'client']) await ready(name);
  });

  after(async () => {
    for (const child of children) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    const left = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout;
    assert.doesNotMatch(left, /node-test-/);
    rmSync(dir, { recursive: true, force: true });
  });

  it('reaches a service by name across nodes, with the source address kept', async () => {
    const own = (await get('client')).status?.podIP;
    const answer = await until('an answer', async () => {
      const [code, body] = await exec('client', 'curl', '-s', '-m', '3', 'http://web/');
      return code === 0 ? body : undefined;
    });
    assert.match(answer, /^web /);
    assert.ok(answer.endsWith(own ?? '?'), answer);
  });

  it('carries IPv6 to pods and services, by address and by name, with the source address kept', async () => {
    await create('/api/v1/namespaces/default/services', {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'both' },
      spec: {
        ipFamilyPolicy: 'RequireDualStack',
        selector: { app: 'web' },
        ports: [{ port: 80, targetPort: 8080 }],
      },
    });
    const path = '/api/v1/namespaces/default/services/both';
    const { spec } = await api.json<{ spec: { clusterIPs: string[] } }>({ path });
    assert.equal(spec.clusterIPs.filter(isIPv4).length, 1);
    const service = spec.clusterIPs.find(isIPv6) ?? assert.fail('no IPv6 address');
    const ipv6 = async (name: string): Promise<string> =>
      (await get(name)).status?.podIPs?.map(({ ip }) => ip).find(isIPv6) ?? assert.fail(name);
    for (const url of [
      `http://[${await ipv6('web')}]:8080/`,
      `http://[${service}]/`,
      'http://both/',
    ]) {
      const answer = await until(url, async () => {
        const [code, body] = await exec('client', 'curl', '-6', '-s', '-m', '3', url);
        return code === 0 ? body : undefined;
      });
      assert.equal(answer, `web ${await ipv6('client')}`, url);
    }
  });

  it('runs a pod with IPv6 alone: probes, names, and services by name', async () => {
    const containers = [
      {
        name: 'main',
        image: 'none',
        command: [process.execPath, '-e', serverScript],
        env: [{ name: 'WHO', value: 'six' }],
        readinessProbe: { httpGet: { port: 8080 } },
      },
    ];
    const object = pod('six', 'test-a', { containers });
    const annotations = { 'local.ambient-mesh.io/ip-family': 'IPv6' };
    await create('/api/v1/namespaces/default/pods', {
      ...object,
      metadata: { name: 'six', annotations },
    });
    const { podIP = '', podIPs } = (await ready('six')).status ?? {};
    assert.ok(isIPv6(podIP), podIP);
    assert.equal(podIPs?.length, 1);
    const [, own] = await exec('six', 'ip', '-4', 'addr', 'show', 'dev', 'eth0');
    assert.equal(own, '', 'no IPv4 address');
    const [, resolvConf] = await exec('six', 'cat', '/etc/resolv.conf');
    assert.match(resolvConf, /^nameserver fd00:10:96::/);
    const answer = await exec('six', 'curl', '-s', '-m', '3', 'http://both/');
    assert.deepEqual(answer, [0, `web ${podIP}`]);
    const url = `http://[${podIP}]:8080/`;
    assert.match((await exec('client', 'curl', '-s', '-m', '3', url))[1], /^six fd00:/);
    await api.json({ method: 'DELETE', path: '/api/v1/namespaces/default/pods/six' });
  });

  it('lets a pod reach itself through its service', async () => {
    const [code, body] = await exec('web', 'curl', '-s', '-m', '3', 'http://web.default.svc/');
    assert.equal(code, 0);
    assert.match(body, /^web /);
  });

  it('refuses an address of the service range that nobody serves, at once', async () => {
    const [code] = await exec('client', 'curl', '-s', '-m', '3', 'http://10.96.77.77/');
    assert.equal(code, 7, 'connection refused');
  });

  it('gives a container its volumes, host name and account', async () => {
    const [, seen] = await exec(
      'client',
      'sh',
      '-c',
      'cat /var/lib/shared/first /etc/settings/colour; echo; hostname; cat /etc/hosts | grep client',
    );
    assert.match(seen, /^started\ngreen\nclient\n/);
    const [code] = await exec('client', 'sh', '-c', 'exit 4');
    assert.equal(code, 4);
  });

  it('calls a container running only when its own files are in place', async () => {
    for (const name of ['fresh-1', 'fresh-2', 'fresh-3']) {
      const containers = [{ name: 'main', image: 'none', command: ['sleep', '1000'] }];
      await create('/api/v1/namespaces/default/pods', pod(name, 'test-a', { containers }));
      await ready(name);
      const [, resolvConf] = await exec(name, 'cat', '/etc/resolv.conf');
      assert.match(resolvConf, /^nameserver .*\nsearch default\.svc\./);
      await api.json({ method: 'DELETE', path: `/api/v1/namespaces/default/pods/${name}` });
    }
  });

  it('ends a command that runs in a container with the container, and starts that again at once', async () => {
    const command = exec('web', 'sleep', '86399.5');
    const isRunning = (): boolean => spawnSync('pgrep', ['-f', '^sleep 86399.5']).status === 0;
    await until('the command', () => Promise.resolve(isRunning() ? true : undefined));
    const [container] = (await get('web')).status?.containerStatuses ?? [];
    const [, pid = assert.fail('no container')] =
      /^local:\/\/(\d+)$/.exec(container?.containerID ?? '') ?? [];
    process.kill(Number(pid), 'SIGKILL');
    await until('a restart', async () => {
      const [now] = (await get('web')).status?.containerStatuses ?? [];
      return now?.restartCount === 1 && now.containerID !== undefined ? true : undefined;
    });
    assert.equal((await command)[0], 137);
    assert.ok(!isRunning());
    // A pause before it would be told by an event.
    const path = '/api/v1/namespaces/default/events';
    const events = await api.json<{ items: { reason: string }[] }>({ path });
    assert.deepEqual(
      events.items.filter(({ reason }) => reason === 'BackOff'),
      [],
    );
    await ready('web');
  });

  it('cleans up after a killed run, and runs its pods again', async () => {
    const before = readdirSync(join(state, 'netns'));
    assert.ok(before.length >= 4);
    const containerId = async (): Promise<string | undefined> =>
      (await get('client')).status?.containerStatuses?.[0]?.containerID;
    const old = await containerId();
    kubelet.kill('SIGKILL');
    await once(kubelet, 'exit');
    kubelet = startKubelet();
    await until('the new container', async () => {
      await ready('client');
      const now = await containerId();
      return now !== undefined && now !== old ? true : undefined;
    });
    await until('the service again', async () => {
      const [code, body] = await exec('client', 'curl', '-s', '-m', '2', 'http://web/');
      return code === 0 && body.startsWith('web ') ? true : undefined;
    });
  });

  it('deletes a pod with all that belongs to it', async () => {
    await api.json({ method: 'DELETE', path: '/api/v1/namespaces/default/pods/client' });
    await until('the end of the pod', async () => {
      const answer = await get('client').then(
        () => undefined,
        () => true,
      );
      return answer;
    });
    const names = readdirSync(join(state, 'netns'));
    assert.ok(!names.some((name) => name.startsWith('default.client')), names.join(' '));
    assert.equal(readFileSync(join(state, 'instance'), 'utf8').length > 0, true);
  });
});
