// A pod goes, and another one gets its address: what was open or pooled for the one before never carries anything to the one
// that came, and nobody is taken for somebody else, also while the control plane is late.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const CLIENT = '10.77.0.1';
const WATCHER = '10.77.0.2';
const SERVICE = { hostname: 'web.default.svc.cluster.local', vip: '10.96.0.1' };
const vipOf = (ip: string) => ({ network: '', address: parseIp(ip) ?? new Uint8Array() });
const idOf = (account: string): string => `spiffe://cluster.local/ns/default/sa/${account}`;

/** A pod with a server, in the mesh; with a record when `more` is given. */
async function come(name: string, ip: string, node: string, more?: object): Promise<void> {
  mesh.addPod({ name, ip, node });
  await mesh.serve(name);
  if (more !== undefined) await mesh.putPod(name, more);
  await mesh.enrol(name);
}

/** The pod vanishes, and the control plane knows. */
async function go(name: string): Promise<void> {
  await mesh.removePod(name);
  await mesh.removeAddress(name);
}

/** An open connection of the client, which has carried a line; it ends with a code. */
async function open(
  ip: string,
  port = 8080,
): Promise<{ running: ChildProcess; closed: Promise<unknown[]> }> {
  const running = mesh.client('client', ip, port);
  running.stdin?.write('first\n');
  await nextOutput(running);
  return { running, closed: once(running, 'close') };
}

/** What applications of the node were sent, as lines of its access log say. */
function inboundLines(node: string, pod: string): Record<string, unknown>[] {
  return mesh
    .log(node)
    .split('\n')
    .filter((line) => line.includes('"direction":"inbound"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line['dst.workload'] === pod);
}

before(async () => {
  await mesh.start();
  for (const node of ['a', 'b', 'c']) await mesh.startNode(node);
  mesh.addPod({ name: 'client', ip: CLIENT, node: 'a' });
  await mesh.putPod('client');
  await mesh.enrol('client');
  await come('watcher', WATCHER, 'b', {});
});

after(() => mesh.close());

describe('ip_reuse', () => {
  it('another identity on another node: nothing that is pooled for the old one is used', async () => {
    const ip = '10.77.0.11';
    await come('old-1', ip, 'b', {});
    const { running, closed } = await open(ip);
    await go('old-1');
    await come('new-1', ip, 'c', {});
    const { stdout } = await mesh.ask('client', ip);
    assert.equal(stdout, `new-1 saw ${CLIENT}: hello\n`);
    running.stdin?.write('for the old one only\n');
    assert.equal((await closed)[0], 3, 'the old connection breaks, it is not continued');
    await eventually('the new pod’s line is written', () => inboundLines('c', 'new-1').length > 0);
    const lines = inboundLines('c', 'new-1');
    assert.equal(lines.length, 1);
    assert.partialDeepStrictEqual(lines[0], { bytes_recv: 6, 'src.identity': idOf('client') });
  });

  it('while the old one is still an endpoint: no byte reaches the new pod', async () => {
    const ip = '10.77.0.12';
    const ports = { ports: [{ servicePort: 80, targetPort: 8080 }] };
    const { hostname, vip } = SERVICE;
    const value = {
      name: 'web',
      namespace: 'default',
      hostname,
      addresses: [vipOf(vip)],
      ...ports,
    };
    await mesh.putAddress(`default/${hostname}`, { type: { case: 'service', value } });
    await come('old-2', ip, 'b', { services: { [`default/${hostname}`]: ports } });
    const { running, closed } = await open(vip, 80);
    await mesh.removePod('old-2');
    await come('new-2', ip, 'c', {});
    running.stdin?.write('for the old one only\n');
    assert.equal((await closed)[0], 3);
    const { status, stdout } = await mesh.ask('client', vip, 80);
    assert.deepEqual([status, stdout], [3, '']);
    await eventually('the reason is on record', () => /identity_mismatch/.test(mesh.log('a')));
    await mesh.removeAddress('old-2');
    assert.equal((await mesh.ask('client', ip)).stdout, `new-2 saw ${CLIENT}: hello\n`);
    await eventually('its line is written', () => inboundLines('c', 'new-2').length > 0);
    const served = inboundLines('c', 'new-2').filter((line) => line['bytes_recv'] !== 0);
    assert.equal(served.length, 1);
  });

  it('while the record is still the old one, a pod out of the mesh: no plaintext to it', async () => {
    const ip = '10.77.0.13';
    await come('old-3', ip, 'b', {});
    await mesh.removePod('old-3');
    mesh.addPod({ name: 'new-3', ip, node: 'none' });
    await mesh.serve('new-3');
    const { status, stdout } = await mesh.ask('client', ip);
    assert.deepEqual([status, stdout], [3, '']);
    await mesh.removeAddress('old-3');
    assert.equal((await mesh.ask('client', ip)).stdout, `new-3 saw ${CLIENT}: hello\n`);
  });

  it('the same identity on another node: the first connection is served, over one of its own', async () => {
    const ip = '10.77.0.14';
    await come('old-4', ip, 'b', {});
    assert.equal((await mesh.ask('client', ip)).stdout, `old-4 saw ${CLIENT}: hello\n`);
    const account = { serviceAccount: 'old-4' };
    await go('old-4');
    mesh.addPod({ name: 'new-4', ip, node: 'c' });
    await mesh.serve('new-4');
    await mesh.putPod('new-4', account);
    await mesh.enrol('new-4', account);
    const { status, stdout } = await mesh.ask('client', ip);
    assert.deepEqual([status, stdout], [0, `new-4 saw ${CLIENT}: hello\n`]);
  });

  it('a source: the pod that comes has its own identity, and the old one’s policy is not its own', async () => {
    const ip = '10.77.0.15';
    await come('old-5', ip, 'a', {});
    assert.equal((await mesh.ask('old-5', WATCHER)).status, 0);
    const principals = [{ matchType: { case: 'exact', value: idOf('old-5').slice(9) } }] as const;
    await mesh.putPolicy('default/no-old', {
      ...{ name: 'no-old', namespace: 'default', scope: Scope.NAMESPACE, action: Action.DENY },
      rules: [{ clauses: [{ matches: [{ principals: [...principals] }] }] }],
    });
    assert.equal((await mesh.ask('old-5', WATCHER)).status, 3);
    await go('old-5');
    await come('new-5', ip, 'a', {});
    const { stdout } = await mesh.ask('new-5', WATCHER);
    assert.equal(stdout, `watcher saw ${ip}: hello\n`);
    await eventually('its line names the new identity', () => {
      const line = inboundLines('b', 'watcher').find((one) => one['src.workload'] === 'new-5');
      return line?.['src.identity'] === idOf('new-5');
    });
    await mesh.putPolicy('default/no-old', undefined);
  });
});
