// HBONE between our node proxy and programs that are not ours: Envoy and node:http2, each as the client and as the server of
// tunnels, with applications in the pods behind both (curl among them): bodies, half-close each way, checksums, identities
// as each side sees them, refusals.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { findEnvoy } from '../bench/tools.ts';
import { serveChecksums, transfer } from '../support/checked-transfer.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';
import { startEnvoyPeer } from './envoy-peer.ts';

const PEERS = ['envoy', 'http2'] as const;
const CLIENT = { name: 'client', ip: '10.77.0.1', node: 'a' };
const SERVER = { name: 'server', ip: '10.77.0.3', node: 'b' };
const STRANGER = { name: 'stranger', ip: '10.77.0.4', node: 'a' };
const FAR = {
  envoy: {
    client: { name: 'envoy-client', ip: '10.77.0.5', node: 'far' },
    server: { name: 'envoy-server', ip: '10.77.0.6', node: 'far' },
  },
  http2: {
    client: { name: 'http2-client', ip: '10.77.0.7', node: 'far' },
    server: { name: 'http2-server', ip: '10.77.0.8', node: 'far' },
  },
} as const;
const LINES = 8080;
const CHECKSUMS = 8082;
const END_FIRST = 8083;
const HTTP = 8084;
const PORTS = [LINES, CHECKSUMS, END_FIRST, HTTP];
const BYTES = 64_000_000;
const BODY = 'x'.repeat(300_000);
const identityOf = (name: string): string => `spiffe://cluster.local/ns/default/sa/${name}`;

const envoy = findEnvoy('.ambient/bench/envoy');
const mesh = new NetnsMesh();
/** What each program says of its tunnels, and each server of what it got. */
const said = new Map<string, string>();

function listen(name: string, child: ChildProcess): void {
  const keep = (chunk: Buffer): void =>
    void said.set(name, `${said.get(name) ?? ''}${chunk.toString()}`);
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
}

function startPeer(kind: (typeof PEERS)[number], role: 'client' | 'server'): void {
  const { name: pod, ip } = FAR[kind][role];
  const address = role === 'client' ? SERVER.ip : ip;
  const identity = identityOf(pod);
  if (kind === 'http2') {
    const args = ['test/support/http2-hbone.ts', role, address, ...PORTS];
    listen(pod, mesh.scriptAs(pod, identity, args, { CA: mesh.root.certPem }));
    return;
  }
  const peer = identityOf(role === 'client' ? SERVER.name : CLIENT.name);
  const options = { role, pod, identity, peer, address, ports: PORTS };
  listen(pod, startEnvoyPeer(mesh, envoy ?? '', options));
}

async function startApplications(pod: string): Promise<void> {
  await mesh.serve(pod, LINES);
  await serveChecksums(mesh, pod);
  const endFirst = ['test/support/end-first-server.ts', String(END_FIRST)];
  listen(`${pod} end-first`, await mesh.startScript(pod, endFirst));
  const http = [HTTP, HTTP + 1, HTTP + 2].map(String);
  await mesh.startScript(pod, ['test/support/http-server.ts', ...http]);
}

before(async () => {
  await mesh.start();
  const far = PEERS.flatMap((kind) => [FAR[kind].client, FAR[kind].server]);
  for (const pod of [CLIENT, SERVER, STRANGER, ...far]) mesh.addPod(pod);
  for (const node of ['a', 'b']) await mesh.startNode(node);
  for (const { name } of [CLIENT, SERVER, STRANGER, ...far]) await mesh.putPod(name);
  for (const { name } of [CLIENT, SERVER, STRANGER]) await mesh.enrol(name);
  for (const { name } of [SERVER, FAR.envoy.server, FAR.http2.server]) {
    await startApplications(name);
  }
  for (const kind of PEERS.filter((one) => one === 'http2' || envoy !== undefined)) {
    startPeer(kind, 'client');
    startPeer(kind, 'server');
    const { client, server } = FAR[kind];
    await eventually(`${client.name} carries`, async () => {
      return (await mesh.ask(client.name, '127.0.0.1')).status === 0;
    });
    await eventually(`${server.name} carries`, async () => {
      return (await mesh.ask(CLIENT.name, server.ip)).status === 0;
    });
  }
});

after(() => mesh.close());

/** What holds for a path of tunnels, whoever is at its ends. */
function carriesEverything(pod: string, host: string): void {
  it('carries HTTP of curl with bodies both ways', async () => {
    const url = `http://${host}:${HTTP}/200`;
    const file = mesh.writeFile('body', BODY);
    const args = ['-sS', '-m', '20', '--data-binary', `@${file}`, url];
    const { status, stdout, stderr } = await mesh.runProgram(pod, 'curl', args);
    assert.deepEqual([status, stderr], [0, '']);
    assert.equal(stdout, BODY);
  });

  it(`carries ${BYTES / 1e6} MB up and down with checksums; the client ends first`, async () => {
    const { arrived, received, isRight } = await transfer(mesh, pod, host, BYTES);
    assert.deepEqual([arrived, received, isRight], [BYTES, BYTES, true]);
  });

  it('lets the server speak first', async () => {
    const { status, stdout } = await mesh.ask(pod, host, END_FIRST);
    assert.deepEqual([status, stdout], [0, 'first and last\n']);
  });
}

/** What Envoy does not do as a server: it resets a stream when its own direction has ended. */
function hearsTheClientOut(pod: string, host: string, app: string): void {
  it('lets the server end first: the client is heard to its end', async () => {
    const args = ['test/support/end-second-client.ts', host, String(END_FIRST), '5000000'];
    const { heard, digest } = JSON.parse(await mesh.runScript(pod, args)) as Record<string, string>;
    assert.equal(heard, 'first and last\n');
    await eventually('all of it has come', () => {
      return said.get(`${app} end-first`)?.includes(`5000000 ${digest ?? ''}\n`) === true;
    });
  });
}

for (const kind of PEERS) {
  const isMissing = kind === 'envoy' && envoy === undefined;
  const skip = isMissing ? 'no Envoy here: set ENVOY, or let pip fetch it' : false;
  const { client, server } = FAR[kind];

  describe(`${kind} as the client of our tunnels`, { skip }, () => {
    it('is served with its address and its identity, and sees that of the pod', async () => {
      const { status, stdout } = await mesh.ask(client.name, '127.0.0.1');
      assert.deepEqual([status, stdout], [0, `server saw ${client.ip}: hello\n`]);
      const line = new RegExp(`"src.addr":"${client.ip}:[^\\n]*"src.identity":"([^"]*)"`);
      await eventually('its access line is there', () => line.test(mesh.log('b')));
      assert.equal(line.exec(mesh.log('b'))?.[1], identityOf(client.name));
      await eventually('it says whom it saw', () => {
        return said.get(client.name)?.includes(identityOf(SERVER.name)) === true;
      });
    });

    carriesEverything(client.name, '127.0.0.1');
    hearsTheClientOut(client.name, '127.0.0.1', SERVER.name);

    it('is cut off by a policy, and refused from then on', async () => {
      const running = mesh.client(client.name, '127.0.0.1', LINES);
      running.stdin?.write('one\n');
      await nextOutput(running);
      const closed = new Promise((done) => running.on('close', done));
      await deny(client.name);
      await closed;
      const { stdout } = await mesh.ask(client.name, '127.0.0.1');
      assert.equal(stdout, '');
      await eventually('the policy is named', () =>
        mesh.log('b').includes(`default/no-${client.name}`),
      );
      await mesh.putPolicy(`default/no-${client.name}`, undefined);
      assert.equal((await mesh.ask(client.name, '127.0.0.1')).status, 0);
    });
  });

  describe(`${kind} as the server of our tunnels`, { skip }, () => {
    it('sees the pod’s identity and records, and is known by its own', async () => {
      const { status, stdout } = await mesh.ask(CLIENT.name, server.ip);
      assert.deepEqual([status, stdout], [0, `${server.name} saw 127.0.0.1: hello\n`]);
      const seen = [identityOf(CLIENT.name), `${server.ip}:${LINES}`, 'k8s.namespace.name=default'];
      await eventually('it says what it saw', () => {
        return seen.every((text) => said.get(server.name)?.includes(text) === true);
      });
      const line = `"dst.identity":"${identityOf(server.name)}"`;
      await eventually('so do we', () => mesh.log('a').includes(line));
    });

    carriesEverything(CLIENT.name, server.ip);
    if (kind !== 'envoy') hearsTheClientOut(CLIENT.name, server.ip, server.name);

    it('refuses a port: the application’s connection ends, and the reason is on record', async () => {
      const { stdout } = await mesh.ask(CLIENT.name, server.ip, 8099);
      assert.equal(stdout, '');
      const line = new RegExp(`"dst.hbone_addr":"${server.ip}:8099"[^\\n]*404`);
      await eventually('the code is on record', () => line.test(mesh.log('a')));
    });

    it('is refused when it is not who the mesh says', async () => {
      await mesh.putPod(server.name, { serviceAccount: 'someone' });
      const { stdout } = await mesh.ask(CLIENT.name, server.ip);
      assert.equal(stdout, '');
      await mesh.putPod(server.name);
      assert.equal((await mesh.ask(CLIENT.name, server.ip)).status, 0);
    });
  });
}

describe('envoy that knows one peer only', { skip: envoy === undefined && 'no Envoy here' }, () => {
  it('refuses another pod of ours in the handshake: a failure with a reason', async () => {
    const { stdout } = await mesh.ask(STRANGER.name, FAR.envoy.server.ip);
    assert.equal(stdout, '');
    const line = new RegExp(`"src.workload":"${STRANGER.name}"[^\\n]*"reason":"([a-z_]+)"`);
    await eventually('the failure is on record', () => line.test(mesh.log('a')));
    assert.match(line.exec(mesh.log('a'))?.[1] ?? '', /tls|connect/);
  });
});

async function deny(name: string): Promise<void> {
  const exact = identityOf(name).replace('spiffe://', '');
  const principal = { matchType: { case: 'exact', value: exact } } as const;
  await mesh.putPolicy(`default/no-${name}`, {
    ...{ name: `no-${name}`, namespace: 'default', scope: Scope.NAMESPACE, action: Action.DENY },
    rules: [{ clauses: [{ matches: [{ principals: [principal] }] }] }],
  });
}
