// What the kernel knows of the node proxy's sockets in pods: options of the listeners, the backlog, and which
// connections are kept alive, with the defaults and with everything the other way.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import {
  AF_INET,
  AF_INET6,
  IP_TRANSPARENT,
  SOL_IP,
  SOL_SOCKET,
  SOL_TCP,
  SO_KEEPALIVE,
  SO_MARK,
  SO_REUSEADDR,
  SO_REUSEPORT,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_USER_TIMEOUT,
} from '../../engine/native/libc.ts';
import { Netns } from '../../engine/reactor/netns.ts';
import { readConfig } from '../../ztunnel/config.ts';
import { closeDnsSockets, openDnsSockets } from '../../ztunnel/dns/dns-sockets.ts';
import { podNetns } from '../../ztunnel/inpod/pod-source.ts';
import { closePodSockets, openPodSockets } from '../../ztunnel/inpod/pod-sockets.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';
import { POD_RULES } from '../support/pod-rules.ts';
import { socketOption } from '../support/socket-option.ts';

const mesh = new NetnsMesh();
const MARK = 0x539;
/** `AF_INET` or `AF_INET6` (socket(7)). */
const SO_DOMAIN = 39;
/** Asks SOCKS5 for the server, says hello, and stays. */
const SOCKS_CLIENT = `const s = require('node:net').connect(15080, '127.0.0.1');
  s.write(Buffer.from('050100' + '050100010a4d00031f90', 'hex'));
  s.write('hello\\n');
  s.on('data', (d) => process.stdout.write(d));
  process.stdin.on('end', () => s.end()).resume();
  s.on('close', () => process.exit(0));`;
/** Whether another program gets the port by SO_REUSEPORT. */
const SHARE = `const s = require('node:net').createServer();
  s.on('error', (err) => console.log(err.code));
  s.listen({ host: '::', port: 15001, reusePort: true }, () => { console.log('shared'); s.close(); });`;

before(async () => {
  await mesh.start();
  const pods = [
    { name: 'empty', ip: '10.77.0.9', node: 'none' },
    { name: 'outside', ip: '10.77.0.5', node: 'none' },
    { name: 'client', ip: '10.77.0.1', node: 'a' },
    { name: 'late', ip: '10.77.0.6', node: 'a' },
    { name: 'server', ip: '10.77.0.3', node: 'b' },
  ];
  for (const pod of pods) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.serve('client');
  mesh.proxyEnv['UNSTABLE_ENABLE_SOCKS5'] = 'true';
  await mesh.startNode('a');
  Object.assign(mesh.proxyEnv, { KEEPALIVE_ENABLED: 'false', INPOD_PORT_REUSE: 'false' });
  await mesh.startNode('b');
  await mesh.putPod('late');
  for (const name of ['client', 'server']) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

function optionsOf(fd: number): Record<string, number> {
  return {
    reusePort: socketOption(fd, SOL_SOCKET, SO_REUSEPORT),
    reuseAddress: socketOption(fd, SOL_SOCKET, SO_REUSEADDR),
    transparent: socketOption(fd, SOL_IP, IP_TRANSPARENT),
    mark: socketOption(fd, SOL_SOCKET, SO_MARK),
    keepalive: socketOption(fd, SOL_SOCKET, SO_KEEPALIVE),
    ...(socketOption(fd, SOL_SOCKET, SO_KEEPALIVE) === 0
      ? {}
      : {
          idle: socketOption(fd, SOL_TCP, TCP_KEEPIDLE),
          interval: socketOption(fd, SOL_TCP, TCP_KEEPINTVL),
          probes: socketOption(fd, SOL_TCP, TCP_KEEPCNT),
        }),
    userTimeout: socketOption(fd, SOL_TCP, TCP_USER_TIMEOUT),
  };
}

const familyOf = (fd: number): number => socketOption(fd, SOL_SOCKET, SO_DOMAIN);

/** What `look` sees of each listener that a proxy with these variables makes in an empty pod. */
function lookAtListeners<T>(
  env: Readonly<Record<string, string>>,
  look: (fd: number) => T,
): Map<number, T> {
  const config = readConfig({ UNSTABLE_ENABLE_SOCKS5: 'true', ...env });
  const netns = Netns.open(mesh.netnsPath('empty'));
  const sockets = openPodSockets(netns, { ...config, packetMark: MARK, isSourcePreserved: true });
  try {
    return new Map(sockets.map(({ port, fd }) => [port, look(fd)]));
  } finally {
    closePodSockets(sockets);
    netns.close();
  }
}

/** Their options. */
const listeners = (env: Readonly<Record<string, string>>): Map<number, Record<string, number>> =>
  lookAtListeners(env, optionsOf);

/** The timers of a pod's connections, once nothing of them is on its way: another timer runs meanwhile. */
async function timers(pod: string, port: string): Promise<string> {
  let found = '';
  await eventually(`${pod} has calm connections with ${port}`, async () => {
    const filter = ['-Hton', 'state', 'established', port];
    found = (await mesh.runProgram(pod, 'ss', filter)).stdout;
    return found !== '' && !found.includes('timer:(on');
  });
  return found;
}

describe('sockets of the node proxy in a pod', () => {
  const REDIRECTED = { transparent: 1, mark: 0, reusePort: 1, reuseAddress: 0 };
  const ALIVE = { keepalive: 1, idle: 180, interval: 180, probes: 9, userTimeout: 0 };
  const NOT_ALIVE = { keepalive: 0, userTimeout: 0 };

  it('listeners: SO_REUSEPORT without SO_REUSEADDR, transparent; keepalive for 15001 and 15006 alone', () => {
    assert.deepEqual(
      listeners({}),
      new Map([
        [15001, { ...REDIRECTED, ...ALIVE }],
        [15006, { ...REDIRECTED, ...ALIVE }],
        [15008, { ...REDIRECTED, ...NOT_ALIVE, mark: MARK }],
        [15080, { ...REDIRECTED, ...NOT_ALIVE }],
      ]),
    );
  });

  it('listeners with INPOD_PORT_REUSE=false: SO_REUSEADDR instead', () => {
    for (const [port, found] of listeners({ INPOD_PORT_REUSE: 'false' })) {
      assert.deepEqual([found['reusePort'], found['reuseAddress']], [0, 1], String(port));
    }
  });

  it('listeners with IPV6_ENABLED=false: IPv4 alone', () => {
    const families = (env: Readonly<Record<string, string>>): number[] => [
      ...lookAtListeners(env, familyOf).values(),
    ];
    assert.deepEqual(families({ IPV6_ENABLED: 'false' }), [AF_INET, AF_INET, AF_INET, AF_INET]);
    // SOCKS5 is on 127.0.0.1 in any case.
    assert.deepEqual(families({}), [AF_INET6, AF_INET6, AF_INET6, AF_INET]);
  });

  it('a namespace is known by inode and device, not by its descriptor', () => {
    const opened = ['empty', 'empty', 'outside'].map((pod) =>
      podNetns(Netns.open(mesh.netnsPath(pod))),
    );
    const [first, again, other] = opened;
    assert.notEqual(first?.netns.fd, again?.netns.fd);
    assert.equal(first?.id, again?.id);
    assert.notEqual(first?.id, other?.id);
    for (const each of opened) each.close();
  });

  it('what runs in a namespace runs there, and the thread is back then, also when it fails', () => {
    const here = (): number => statSync('/proc/thread-self/ns/net').ino;
    const own = here();
    const netns = Netns.open(mesh.netnsPath('empty'));
    try {
      assert.notEqual(netns.inode, own);
      assert.equal(netns.runSync(here), netns.inode);
      assert.equal(here(), own);
      const fails = (): never => assert.fail(`in ${here()}`);
      assert.throws(() => netns.runSync(fails), new RegExp(`in ${netns.inode}`));
      assert.equal(here(), own);
    } finally {
      netns.close();
    }
    assert.throws(() => netns.runSync(here), /closed/);
  });

  it('listeners with KEEPALIVE_ENABLED=false: none is kept alive', () => {
    for (const [port, found] of listeners({ KEEPALIVE_ENABLED: 'false' })) {
      assert.equal(found['keepalive'], 0, String(port));
    }
  });

  it('listeners with USER_TIMEOUT_ENABLED: 30 minutes on 15001 and 15006', () => {
    const all = [...listeners({ USER_TIMEOUT_ENABLED: 'true' })];
    assert.deepEqual(
      all.map(([port, { userTimeout }]) => [port, userTimeout]),
      [
        [15001, 1_800_000],
        [15006, 1_800_000],
        [15008, 0],
        [15080, 0],
      ],
    );
  });

  it('DNS listeners, UDP and TCP, IPv4 and IPv6: marked, SO_REUSEPORT as configured', () => {
    for (const isPortReuse of [true, false]) {
      const netns = Netns.open(mesh.netnsPath('empty'));
      const addresses = ['127.0.0.1', '::1'];
      const sockets = openDnsSockets(netns, { addresses, port: 15_053, mark: MARK, isPortReuse });
      const found = sockets.map(({ transport, family, fd }) => [
        `${transport}${family}`,
        socketOption(fd, SOL_SOCKET, SO_MARK),
        socketOption(fd, SOL_SOCKET, SO_REUSEPORT),
      ]);
      closeDnsSockets(sockets);
      netns.close();
      const reuse = isPortReuse ? 1 : 0;
      const all = ['udp4', 'tcp4', 'udp6', 'tcp6'].map((name) => [name, MARK, reuse]);
      assert.deepEqual(found, all);
    }
  });

  it('a port of a pod that another has: its Add is refused, the proxy is not ready, and it is served once the port is free', async () => {
    const other = await mesh.serve('late', 15_008);
    await assert.rejects(mesh.enrol('late'), /failure to start proxy : .*15008/);
    assert.match(await (await mesh.readiness('a')).text(), /pending: workload proxy manager/);
    const stateOf = async (): Promise<unknown> => {
      const { workloadState } = await mesh.configDump('a');
      return (workloadState as Record<string, { state: string }>)['late']?.state;
    };
    assert.equal(await stateOf(), 'Pending');
    other.kill('SIGKILL');
    await mesh.whenReady('a');
    assert.equal(await stateOf(), 'Up');
    mesh.applyRules('late', POD_RULES);
    assert.equal((await mesh.ask('late', '10.77.0.3')).stdout, 'server saw 10.77.0.6: hello\n');
  });

  it('1,024 connections wait for each listener: those of a restart', async () => {
    const { stdout } = await mesh.runProgram('client', 'ss', ['-Htln']);
    for (const port of [15001, 15006, 15008, 15080]) {
      const line = stdout.split('\n').find((each) => each.includes(`:${port} `)) ?? '';
      assert.equal(line.split(/\s+/)[2], '1024', `${port}: ${line}`);
    }
  });

  it('port reuse: another instance may have the port of a pod, and with INPOD_PORT_REUSE=false none', async () => {
    assert.equal(await mesh.runScript('client', ['--eval', SHARE]), 'shared');
    assert.equal(await mesh.runScript('server', ['--eval', SHARE]), 'EADDRINUSE');
  });

  it('what comes by SOCKS5 is not kept alive, what is dialled for it is', async () => {
    const client = mesh.script('client', ['--eval', SOCKS_CLIENT]);
    while (!(await nextOutput(client)).includes('saw')) continue;
    assert.doesNotMatch(await timers('client', 'sport = :15080'), /keepalive/);
    assert.match(await timers('client', 'dport = :15008'), /timer:\(keepalive,/);
    client.stdin?.end();
    await once(client, 'close');
  });

  it('KEEPALIVE_ENABLED=false: nothing that is accepted or dialled is kept alive', async () => {
    const clients = [
      mesh.client('server', '10.77.0.1', 8080),
      mesh.client('outside', '10.77.0.3', 8080),
    ];
    for (const client of clients) {
      client.stdin?.write('hello\n');
      await nextOutput(client);
    }
    for (const port of ['sport = :15001', 'dport = :15008', 'sport = :15006']) {
      assert.doesNotMatch(await timers('server', port), /keepalive/, port);
    }
    for (const client of clients) {
      client.stdin?.end();
      await once(client, 'close');
    }
  });
});
