// Destinations that do not answer at all, neither with a connection nor with a refusal: each dial of a node proxy is given
// up after ten seconds, with a reason, and the application is told.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const TIMEOUT_MS = 10_000;
/** For the client's start and the way back. */
const SLACK_MS = 4000;

/** Drops what comes to a port of a pod, from itself too. */
function hole(pod: string, port: number): void {
  const lines = ['type filter hook input priority 0;', `tcp dport ${port} drop`];
  mesh.applyRules(pod, `table inet hole {\nchain input {\n${lines.join('\n')}\n}\n}\n`);
}

interface Hole {
  readonly claim: string;
  readonly host: string;
  readonly port: number;
  /** What a line of the client's proxy contains. */
  readonly says: readonly string[];
  /** And one of the other proxy, where that is the one who waited. */
  readonly farSays?: readonly string[];
}

const HOLES: readonly Hole[] = [
  {
    claim: 'a server outside the mesh',
    host: '10.77.0.5',
    port: 8080,
    says: ['"response_flags":"CONNECT"', 'connect to 10.77.0.5 port 8080: timed out'],
  },
  {
    claim: 'a pod whose port for tunnels is blocked',
    host: '10.77.0.4',
    port: 8080,
    says: [
      '"response_flags":"NETWORK_POLICY"',
      'maybe a NetworkPolicy is blocking HBONE port 15008',
    ],
  },
  {
    claim: 'an application behind a tunnel',
    host: '10.77.0.3',
    port: 8081,
    says: ['"reason":"tunnel_refused"', 'http status: 503'],
    farSays: ['"reason":"connect_timeout"', 'connect to 10.77.0.3 port 8081: timed out'],
  },
];

before(async () => {
  await mesh.start();
  mesh.addPod({ name: 'client', ip: '10.77.0.1', node: 'a' });
  mesh.addPod({ name: 'server', ip: '10.77.0.3', node: 'b' });
  mesh.addPod({ name: 'deaf', ip: '10.77.0.4', node: 'b' });
  mesh.addPod({ name: 'outside', ip: '10.77.0.5', node: 'none' });
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const name of ['client', 'server', 'deaf']) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
  mesh.addPod({ name: 'leaver', ip: '10.77.0.6', node: 'a' });
  await mesh.putPod('leaver');
  await mesh.enrol('leaver');
  hole('outside', 8080);
  hole('deaf', 15_008);
  hole('server', 8081);
});

after(() => mesh.close());

async function saysAll(node: string, parts: readonly string[]): Promise<void> {
  await eventually(`${node} says ${parts.join()}`, () =>
    mesh
      .log(node)
      .split('\n')
      .some((line) => parts.every((part) => line.includes(part))),
  );
}

describe('a connect without an answer', { concurrency: true }, () => {
  for (const { claim, host, port, says, farSays } of HOLES) {
    it(`is given up after ten seconds: ${claim}`, async () => {
      const startedMs = Date.now();
      const { status, stdout, stderr } = await mesh.ask('client', host, port);
      const tookMs = Date.now() - startedMs;
      assert.deepEqual([status, stdout, stderr], [3, '', 'ECONNRESET\n'], 'it was connected');
      assert.ok(tookMs >= TIMEOUT_MS && tookMs < TIMEOUT_MS + SLACK_MS, `took ${tookMs} ms`);
      await saysAll('a', says);
      if (farSays !== undefined) await saysAll('b', farSays);
    });
  }
});

describe('a pod that leaves the mesh', () => {
  it('is told of what was being dialled for it, before that is given up', async () => {
    const startedMs = Date.now();
    const asked = mesh.ask('leaver', '10.77.0.5');
    await eventually('it is dialled', async () => {
      const { stdout } = await mesh.runProgram('leaver', 'ss', ['-Htn', 'state', 'syn-sent']);
      return stdout.includes('10.77.0.5:8080');
    });
    await mesh.unenrol('leaver');
    const { status, stdout } = await asked;
    assert.deepEqual([status, stdout], [3, '']);
    assert.ok(Date.now() - startedMs < TIMEOUT_MS, `took ${Date.now() - startedMs} ms`);
  });
});
