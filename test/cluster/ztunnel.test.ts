// Two node proxies as processes, pods as network namespaces, a control plane over gRPC: what a user relies on.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { TunnelProtocol } from '../../common/workload/gen/workload_pb.ts';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'intruder', ip: '10.77.0.2', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'second', ip: '10.77.0.4', node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const VIP = '10.96.0.1';
const WEB = 'default/web.default.svc.cluster.local';
const bytesOf = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();

function publish(name: string, tunnelProtocol: TunnelProtocol, inWeb: boolean): Promise<void> {
  const ports = { ports: [{ servicePort: 80, targetPort: 8080 }] };
  return mesh.putPod(name, { tunnelProtocol, services: inWeb ? { [WEB]: ports } : {} });
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.putAddress(WEB, {
    type: {
      case: 'service',
      value: {
        name: 'web',
        namespace: 'default',
        hostname: 'web.default.svc.cluster.local',
        addresses: [{ network: '', address: bytesOf(VIP) }],
        ports: [{ servicePort: 80, targetPort: 8080 }],
      },
    },
  });
  await mesh.serve('server');
  await mesh.serve('second');
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const name of ['client', 'intruder', 'server', 'second']) {
    await publish(name, TunnelProtocol.HBONE, name === 'server');
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

describe('ztunnel', () => {
  it('carries a connection over mutual TLS and keeps the source address', async () => {
    const { status, stdout } = await mesh.ask('client', '10.77.0.3');
    assert.equal(stdout, 'server saw 10.77.0.1: hello\n');
    assert.equal(status, 0);
    const labels = ['connection_security_policy="mutual_tls"', 'destination_workload="server"'];
    await eventually('both sides have counted', async () => {
      const opened = 'istio_tcp_connections_closed_total';
      const source = await mesh.metric('a', opened, 'reporter="source"', ...labels);
      const destination = await mesh.metric('b', opened, 'reporter="destination"', ...labels);
      return source === 1 && destination === 1;
    });
    const principal = 'source_principal="spiffe://cluster.local/ns/default/sa/client"';
    assert.equal(await mesh.metric('b', 'istio_tcp_received_bytes_total', principal), 6);
    assert.equal(await mesh.metric('b', 'istio_tcp_sent_bytes_total', principal), 28);
    const complete = /\{[^\n]*"message":"connection complete"[^\n]*/;
    await eventually('the access line is written', () => complete.test(mesh.log('b')));
    const line = complete.exec(mesh.log('b'))?.[0] ?? '{}';
    assert.partialDeepStrictEqual(JSON.parse(line), {
      'src.identity': 'spiffe://cluster.local/ns/default/sa/client',
      'src.workload': 'client',
      'dst.hbone_addr': '10.77.0.3:8080',
      'dst.workload': 'server',
      'dst.service': 'web.default.svc.cluster.local',
      direction: 'inbound',
      bytes_sent: 28,
      bytes_recv: 6,
    });
  });

  it('balances a service by its virtual address', async () => {
    const { stdout } = await mesh.ask('client', VIP, 80);
    assert.equal(stdout, 'server saw 10.77.0.1: hello\n');
    const service = 'destination_service="web.default.svc.cluster.local"';
    assert.ok((await mesh.metric('a', 'istio_tcp_connections_opened_total', service)) >= 1);
  });

  it('serves plaintext from outside the mesh, and counts it as such', async () => {
    const { stdout } = await mesh.ask('outside', '10.77.0.3');
    assert.equal(stdout, 'server saw 10.77.0.5: hello\n');
    const unknown = 'connection_security_policy="unknown"';
    assert.ok((await mesh.metric('b', 'istio_tcp_connections_opened_total', unknown)) >= 1);
  });

  it('a deny policy refuses new connections and ends running ones', async () => {
    const running = mesh.client('intruder', '10.77.0.3', 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const closed = once(running, 'close');
    await mesh.putPolicy('default/deny', {
      name: 'deny',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      rules: [
        {
          clauses: [
            {
              matches: [
                {
                  principals: [
                    {
                      matchType: { case: 'exact', value: 'cluster.local/ns/default/sa/intruder' },
                    },
                  ],
                },
              ],
            },
          ],
        },
      ],
    });
    const [code] = (await closed) as [number | null];
    assert.equal(code, 3);
    const { status, stdout } = await mesh.ask('intruder', '10.77.0.3');
    assert.deepEqual([status, stdout], [3, '']);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    const failed = 'istio_tcp_connections_failed_total';
    await eventually(
      'the denials are counted',
      async () =>
        (await mesh.metric('b', failed, 'response_flags="DENY"', 'source_workload="intruder"')) >=
        2,
    );
    await eventually('the line names the policy', () =>
      mesh.log('b').includes('"policy":"default/deny"'),
    );
    await mesh.putPolicy('default/deny', undefined);
    assert.equal((await mesh.ask('intruder', '10.77.0.3')).status, 0);
  });

  it('a policy on identities refuses plaintext (strict mutual TLS)', async () => {
    await mesh.putPolicy('default/strict', {
      name: 'strict',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      rules: [
        {
          clauses: [
            { matches: [{ notPrincipals: [{ matchType: { case: 'presence', value: {} } }] }] },
          ],
        },
      ],
    });
    assert.equal((await mesh.ask('outside', '10.77.0.3')).status, 3);
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
    await mesh.putPolicy('default/strict', undefined);
  });

  it('garbage on 15008 hurts nobody and has a reason', async () => {
    const garbage = mesh.client('outside', '10.77.0.3', 15008);
    garbage.stdin?.write('GET / HTTP/1.1\r\n\r\n');
    await once(garbage, 'close');
    await eventually(
      'it is counted',
      async () =>
        (await mesh.metric('b', 'ambient_connections_refused_total', 'reason="tls_failure"')) >= 1,
    );
    assert.equal((await mesh.ask('client', '10.77.0.3')).status, 0);
  });

  it('a tunnel by hand: served for us, refused for another address, port, policy or trust domain', async () => {
    const own = 'spiffe://cluster.local/ns/default/sa/outside';
    const knock = (authority: string, identity = own): Promise<string> =>
      mesh.knock('outside', '10.77.0.3', identity, authority);
    assert.equal(await knock('10.77.0.3:8080'), '200');
    assert.equal(await knock('10.77.0.4:8080'), '400');
    assert.equal(await knock('10.77.0.3:15006'), '503');
    assert.equal(await knock('10.77.0.3:9'), '503');
    assert.equal(await knock('web.default.svc.cluster.local:80'), '200');
    assert.equal(await knock('10.77.0.3:8080', 'spiffe://other/ns/default/sa/outside'), 'ended');
    const refused = 'ambient_connections_refused_total';
    for (const reason of ['ip_mismatch', 'recursive_call', 'connect_failed', 'identity_mismatch']) {
      await eventually(
        `${reason} is counted`,
        async () => (await mesh.metric('b', refused, `reason="${reason}"`)) >= 1,
      );
    }
  });

  it('a connect that fails was opened before it was dialled, and is closed and failed', async () => {
    const unknown = ['reporter="source"', 'destination_workload="unknown"'];
    const counts = async (): Promise<number[]> => [
      await mesh.metric('a', 'istio_tcp_connections_opened_total', ...unknown),
      await mesh.metric('a', 'istio_tcp_connections_closed_total', ...unknown),
      await mesh.metric(
        ...(['a', 'istio_tcp_connections_failed_total', 'response_flags="CONNECT"'] as const),
        ...unknown,
      ),
    ];
    const before = await counts();
    assert.equal((await mesh.ask('client', '10.77.0.5', 9)).status, 3);
    const wanted = before.map((count) => count + 1).join();
    await eventually('each is counted once', async () => (await counts()).join() === wanted);
    await eventually('none is open', async () => {
      return (await mesh.metric('a', 'istio_tcp_sockets_open', 'reporter="source"')) === 0;
    });
  });

  it('plaintext to our own ports is refused: no loop', async () => {
    const label = 'reason="recursive_call"';
    const count = (): Promise<number> =>
      mesh.metric('b', 'ambient_connections_refused_total', label);
    const before = await count();
    for (const port of [15001, 15006]) {
      assert.equal((await mesh.ask('outside', '10.77.0.3', port)).status, 3, `port ${port}`);
    }
    await eventually('each is counted', async () => (await count()) === before + 2);
    assert.equal((await mesh.ask('outside', '10.77.0.3')).status, 0);
  });

  it('what it accepts on 15001 and 15006 is kept alive, and what it dials; not what comes to 15008', async () => {
    const local = mesh.client('client', '10.77.0.3', 8080);
    const plain = mesh.client('outside', '10.77.0.3', 8080);
    for (const client of [local, plain]) {
      client.stdin?.write('hello\n');
      await nextOutput(client);
    }
    const timers = async (pod: string, port: string): Promise<string> => {
      const filter = ['-Hton', 'state', 'established', port];
      return (await mesh.runProgram(pod, 'ss', filter)).stdout;
    };
    assert.match(await timers('client', 'sport = :15001'), /timer:\(keepalive,/);
    assert.match(await timers('server', 'sport = :15006'), /timer:\(keepalive,/);
    assert.match(await timers('client', 'dport = :15008'), /timer:\(keepalive,/);
    const tunnels = await timers('server', 'sport = :15008');
    assert.match(tunnels, /:15008/);
    assert.doesNotMatch(tunnels, /keepalive/);
    for (const client of [local, plain]) {
      client.stdin?.end();
      await once(client, 'close');
    }
  });

  it('marks what it dials in a pod, and the listener for tunnels; those that are redirected to need none', async () => {
    const running = mesh.client('client', '10.77.0.3', 8080);
    const plain = mesh.client('outside', '10.77.0.3', 8080);
    for (const client of [running, plain]) {
      client.stdin?.write('hello\n');
      await nextOutput(client);
    }
    const sockets = async (pod: string, ...filter: string[]): Promise<string[]> => {
      const { stdout } = await mesh.runProgram(pod, 'ss', ['-Htne', ...filter]);
      return stdout.trim().split('\n');
    };
    const established = ['state', 'established'];
    const dialled = [
      ...(await sockets('client', ...established, 'dport = :15008')),
      // The application's own ends have the other direction.
      ...(await sockets('server', ...established, 'dport = :8080')),
    ];
    assert.ok(dialled.length >= 3, dialled.join('\n'));
    for (const line of dialled) assert.match(line, /fwmark:0x539/);
    const listening = await sockets('server', '-l');
    const listener = (port: number): string =>
      listening.find((line) => line.includes(`:${port} `)) ?? '';
    assert.match(listener(15008), /fwmark:0x539/);
    for (const port of [15001, 15006]) {
      assert.notEqual(listener(port), '');
      assert.doesNotMatch(listener(port), /fwmark/);
    }
    assert.equal(listener(15080), '', 'no SOCKS5 unless it is asked for');
    for (const client of [running, plain]) {
      client.stdin?.end();
      await once(client, 'close');
    }
  });

  it('a pod that calls itself is served, by its address and as its own service', async () => {
    for (const [address, port] of [
      ['10.77.0.3', 8080],
      [VIP, 80],
    ] as const) {
      const { status, stdout } = await mesh.ask('server', address, port);
      assert.deepEqual([status, stdout], [0, 'server saw 10.77.0.3: hello\n']);
    }
  });

  it('a pod leaves and joins without a failed connection', async () => {
    const failures: string[] = [];
    const state = { isDone: false };
    const load = (async () => {
      while (!state.isDone) {
        const { status, stderr } = await mesh.ask('client', '10.77.0.4');
        if (status !== 0) failures.push(stderr);
      }
    })();
    await publish('second', TunnelProtocol.NONE, false);
    await mesh.unenrol('second');
    const { stdout } = await mesh.ask('client', '10.77.0.4');
    assert.equal(stdout, 'second saw 10.77.0.1: hello\n');
    await mesh.enrol('second');
    await publish('second', TunnelProtocol.HBONE, false);
    await mesh.ask('client', '10.77.0.4');
    state.isDone = true;
    await load;
    assert.deepEqual(failures, []);
  });

  it('a pod that leaves is cut at once: its connections end at both ends, and their lines say why', async () => {
    const running = [
      mesh.client('client', '10.77.0.4', 8080),
      mesh.client('second', '10.77.0.3', 8080),
    ];
    for (const client of running) {
      client.stdin?.write('one\n');
      await nextOutput(client);
    }
    const ends = running.map((client) => once(client, 'close'));
    await mesh.unenrol('second');
    assert.deepEqual(await Promise.all(ends), [
      [3, null],
      [3, null],
    ]);
    for (const direction of ['inbound', 'outbound']) {
      const parts = [`"direction":"${direction}"`, '"reason":"pod_removed"', 'has left the mesh'];
      await eventually(`${direction} has its line`, () =>
        mesh
          .log('b')
          .split('\n')
          .some((line) => parts.every((part) => line.includes(part))),
      );
    }
    await mesh.enrol('second');
    assert.equal((await mesh.ask('client', '10.77.0.4')).status, 0);
  });

  it('a killed proxy is replaced, and a connect waits for it', async () => {
    await mesh.endProxy('b', 'SIGKILL');
    const asked = mesh.ask('client', '10.77.0.3');
    await mesh.startProxy('b');
    const { status, stdout } = await asked;
    assert.deepEqual([status, stdout], [0, 'server saw 10.77.0.1: hello\n']);
  });

  it('shows workloads, certificates and connections in its dump', async () => {
    const running = mesh.client('client', '10.77.0.3', 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const dump = await mesh.configDump('a');
    running.stdin?.end();
    assert.partialDeepStrictEqual(dump['workloadState'], {
      client: {
        state: 'Up',
        info: { name: 'client', namespace: 'default', serviceAccount: 'client' },
        connections: {
          outbound: [
            { originalDst: '10.77.0.3:8080', actualDst: '10.77.0.3:15008', protocol: 'HBONE' },
          ],
        },
      },
    });
    const text = JSON.stringify(dump);
    assert.ok(text.includes('"identity":"spiffe://cluster.local/ns/default/sa/client"'));
    assert.ok(!text.includes('PRIVATE KEY'));
    const secondsLeft = await mesh.metric('a', 'ambient_certificate_expiry_seconds', '/sa/client"');
    assert.ok(secondsLeft > 86_000 && secondsLeft <= 86_400, String(secondsLeft));
  });

  it('drains: a running connection may end by itself, and the process exits 0', async () => {
    const running = mesh.client('client', '10.77.0.3', 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const ended = mesh.endProxy('a', 'SIGTERM');
    await eventually('draining has begun', () => mesh.log('a').includes('"draining"'));
    running.stdin?.end('two\n');
    const [code] = (await once(running, 'close')) as [number | null];
    assert.equal(code, 0);
    assert.equal(await ended, 0);
  });

  it('draining makes it not unready, but the readiness port accepts no more; admin and metrics go on', async () => {
    await mesh.startProxy('a');
    const { host, port } = mesh.readinessAddress('a');
    const running = mesh.client('client', '10.77.0.3', 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const logged = mesh.log('a').length;
    // Has begun to ask when the drain begins.
    const probe = connect({ host, port });
    await once(probe, 'connect');
    probe.write('GET /healthz/ready HTTP/1.1\r\n');
    const ended = mesh.endProxy('a', 'SIGTERM');
    await eventually('draining has begun', () =>
      mesh.log('a').slice(logged).includes('"draining"'),
    );
    await eventually('the port accepts no more', async () => {
      const late = connect({ host, port });
      const isOpen = await once(late, 'connect').then(
        () => true,
        () => false,
      );
      late.destroy();
      return !isOpen;
    });
    probe.end('Host: a\r\n\r\n');
    let answer = '';
    for await (const part of probe) answer += String(part);
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[^]*\r\nready\n/);
    assert.equal((await mesh.admin('a', '/config_dump')).status, 200);
    assert.ok((await mesh.metric('a', 'istio_tcp_connections_opened_total')) > 0);
    running.stdin?.end('two\n');
    await once(running, 'close');
    assert.equal(await ended, 0);
  });

  it('a second SIGINT ends the drain at once, with 0', async () => {
    mesh.proxyEnv['CONNECTION_TERMINATION_DEADLINE'] = '60s';
    await mesh.startProxy('a');
    const running = mesh.client('client', '10.77.0.3', 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const logged = mesh.log('a').length;
    const ended = mesh.endProxy('a', 'SIGINT');
    await eventually('draining has begun', () =>
      mesh.log('a').slice(logged).includes('"draining"'),
    );
    const closed = once(running, 'close');
    assert.equal(await mesh.endProxy('a', 'SIGINT'), 0);
    assert.equal(await ended, 0);
    // Not by the deadline, a minute later.
    assert.ok(!mesh.log('a').slice(logged).includes('"drained"'));
    await closed;
  });

  it('leaves no listener behind', () => {
    const socket = connect({ host: '127.0.0.1', port: 15008 });
    return once(socket, 'error').then(() => undefined);
  });
});
