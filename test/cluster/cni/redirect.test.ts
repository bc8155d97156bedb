// In-pod redirection with the real nft: joining and leaving under open connections, the probes' source address.
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createInterface } from 'node:readline';
import { applyRedirect, removeRedirect, weakenRedirect } from '../../../cni/agent/pod-redirect.ts';
import { redirectedConnections } from '../../../cni/agent/redirected-connections.ts';
import { findPodNetns } from '../../../cni/agent/pod-netns.ts';
import { DEFAULT_POD_RULES } from '../../../cni/rules/pod-rules.ts';
import { Netns } from '../../../engine/reactor/netns.ts';

const POD = `cnit-pod-${process.pid}`;
const PEER = `cnit-peer-${process.pid}`;
const POD_IP = '10.199.77.2';
const PEER_IP = '10.199.77.3';
const PROBE_IP = '169.254.7.127';
const SCRIPT = join(import.meta.dirname, 'peer.ts');

function ip(...args: string[]): void {
  const done = spawnSync('ip', args, { encoding: 'utf8' });
  assert.equal(done.status, 0, `ip ${args.join(' ')}: ${done.stderr}`);
}

const children: ChildProcess[] = [];

/** A peer in a namespace; `next` is its next line of output. */
function start(netns: string, ...args: string[]) {
  const child = spawn('ip', ['netns', 'exec', netns, process.execPath, SCRIPT, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    send: (text: string) => void child.stdin.write(`${text}\n`),
    next: async (): Promise<string> => String((await lines.next()).value),
    end: async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

async function greeting(netns: string, ...args: string[]): Promise<string> {
  const client = start(netns, 'connect', ...args);
  const line = await client.next();
  await client.end();
  return line;
}

describe('in-pod redirection', () => {
  let netns: Netns;

  before(async () => {
    for (const name of [POD, PEER]) ip('netns', 'add', name);
    ip('-n', POD, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', PEER);
    for (const [name, address] of [
      [POD, POD_IP],
      [PEER, PEER_IP],
    ] as const) {
      ip('-n', name, 'link', 'set', 'lo', 'up');
      ip('-n', name, 'link', 'set', 'eth0', 'up');
      ip('-n', name, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
    }
    ip('-n', PEER, 'addr', 'add', `${PROBE_IP}/32`, 'dev', 'eth0');
    ip('-n', POD, 'route', 'add', `${PROBE_IP}/32`, 'dev', 'eth0');
    netns = Netns.open(`/var/run/netns/${POD}`);
    const servers = [
      start(POD, 'serve', '8080', 'application'),
      start(POD, 'serve', '15006', 'inbound-proxy'),
      start(POD, 'serve', '15001', 'outbound-proxy'),
      start(POD, 'serve', '15008', 'tunnel'),
      start(PEER, 'serve', '8080', 'peer'),
    ];
    for (const server of servers) assert.equal(await server.next(), 'ready');
  });

  after(async () => {
    for (const child of children) child.kill('SIGKILL');
    netns.close();
    for (const name of [POD, PEER]) ip('netns', 'del', name);
  });

  it('finds the namespace by the address of the pod', () => {
    const found = findPodNetns('/var/run/netns', [POD_IP]);
    assert.ok(found);
    assert.ok(found.isSame(netns));
    found.close();
    assert.equal(findPodNetns('/var/run/netns', ['10.199.77.9']), undefined);
  });

  it('redirects new connections only, and leaves again without breaking one', async () => {
    assert.equal(await greeting(PEER, POD_IP, '8080'), 'application');
    const oldInbound = start(PEER, 'connect', POD_IP, '8080');
    const oldOutbound = start(POD, 'connect', PEER_IP, '8080');
    assert.equal(await oldInbound.next(), 'application');
    assert.equal(await oldOutbound.next(), 'peer');

    await applyRedirect(netns, DEFAULT_POD_RULES);
    await applyRedirect(netns, DEFAULT_POD_RULES);
    assert.equal(await greeting(PEER, POD_IP, '8080'), 'inbound-proxy');
    assert.equal(await greeting(POD, PEER_IP, '8080'), 'outbound-proxy');
    assert.equal(await greeting(PEER, POD_IP, '15008'), 'tunnel', 'HBONE is never redirected');
    assert.equal(await greeting(POD, POD_IP, '8080'), 'application', 'a pod reaches itself');
    assert.equal(await greeting(POD, '127.0.0.1', '8080'), 'application', 'loopback is untouched');
    assert.equal(await greeting(PEER, POD_IP, '8080', PROBE_IP), 'application', 'probes pass');
    for (const old of [oldInbound, oldOutbound]) {
      old.send('still there');
      assert.equal(await old.next(), 'still there', 'connections older than the rules go on');
    }

    const redirected = start(PEER, 'connect', POD_IP, '8080');
    assert.equal(await redirected.next(), 'inbound-proxy');
    assert.equal(redirectedConnections(netns), 1);
    await weakenRedirect(netns);
    assert.equal(await greeting(PEER, POD_IP, '8080'), 'application');
    assert.equal(await greeting(POD, PEER_IP, '8080'), 'peer');
    redirected.send('not cut');
    assert.equal(await redirected.next(), 'not cut', 'redirected connections go on while leaving');
    await redirected.end();
    const deadline = Date.now() + 5000;
    while (redirectedConnections(netns) > 0) assert.ok(Date.now() < deadline, 'never drained');

    await removeRedirect(netns);
    const rules = spawnSync('ip', ['netns', 'exec', POD, 'nft', 'list', 'ruleset'], {
      encoding: 'utf8',
    });
    assert.equal(rules.stdout, '');
    const policy = spawnSync('ip', ['-n', POD, 'rule', 'list', 'pref', '32764'], {
      encoding: 'utf8',
    });
    assert.equal(policy.stdout, '');
    await removeRedirect(netns);
  });
});
