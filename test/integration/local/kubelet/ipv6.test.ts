// A node's own servers and probes over IPv6: the cluster DNS answers on both families and both transports, and each
// kind of probe reaches a program that listens on IPv6 only.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { after, describe, it } from 'node:test';
import { decode, encode, streamDecode, streamEncode, type Packet } from 'dns-packet';
import { ClusterDns } from '../../../../local/kubelet/cluster-dns.ts';
import type { Probe } from '../../../../local/kubelet/objects.ts';
import { attemptProbe } from '../../../../local/kubelet/probe.ts';

const QUERY: Packet = { type: 'query', id: 7, questions: [{ type: 'AAAA', name: 'web.test' }] };

async function askUdp(address: string, port: number): Promise<Packet> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  try {
    // Connected: an answer from another address than the one that was asked would not be taken.
    socket.connect(port, address);
    await once(socket, 'connect');
    socket.send(encode(QUERY));
    const [answer] = (await once(socket, 'message')) as [Buffer];
    return decode(answer);
  } finally {
    socket.close();
  }
}

async function askTcp(address: string, port: number): Promise<Packet> {
  const socket = connect({ host: address, port });
  try {
    socket.write(streamEncode(QUERY));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    return streamDecode(answer);
  } finally {
    socket.destroy();
  }
}

describe('the cluster DNS', () => {
  const dns = new ClusterDns((name) => ({
    code: 'NOERROR',
    records: [{ type: 'AAAA', name, data: 'fd00::1' }],
    ttlSec: 5,
  }));
  after(() => dns.close());

  it('answers on IPv4 and IPv6, by UDP and TCP', async () => {
    for (const address of ['127.0.0.1', '::1']) {
      const port = await dns.listen(address, 0);
      for (const ask of [askUdp, askTcp]) {
        const { id, answers } = await ask(address, port);
        assert.equal(id, QUERY.id);
        assert.deepEqual(
          answers?.map((record) => 'data' in record && record.data),
          ['fd00::1'],
          `${address} ${ask.name}`,
        );
      }
    }
  });
});

describe('probes of an IPv6 address', () => {
  const servers: Server[] = [];
  after(() => {
    for (const server of servers) server.close();
  });

  async function listen(server: Server): Promise<number> {
    servers.push(server);
    server.listen({ port: 0, host: '::1', ipv6Only: true });
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  const attempt = (probe: Probe, podIp = '::1'): Promise<{ readonly ok: boolean }> =>
    attemptProbe(probe, { podIp, container: { name: 'c', image: 'i' }, pid: () => undefined });

  it('reaches http, tcp and grpc', async () => {
    const hosts: (string | undefined)[] = [];
    const http = await listen(
      createHttpServer((request, response) => {
        hosts.push(request.headers.host);
        response.end();
      }),
    );
    const tcp = await listen(createServer((socket) => socket.end()));
    const grpcServer = createHttp2Server();
    grpcServer.on('stream', (stream, headers) => {
      hosts.push(headers[':authority']);
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, 1]));
    });
    const grpc = await listen(grpcServer);
    const probes: readonly Probe[] = [
      { httpGet: { port: http } },
      { tcpSocket: { port: tcp } },
      { grpc: { port: grpc } },
    ];
    for (const probe of probes) {
      assert.equal((await attempt(probe)).ok, true, JSON.stringify(probe));
      assert.equal((await attempt(probe, '127.0.0.1')).ok, false, 'nobody listens on IPv4');
    }
    assert.deepEqual(hosts, [`[::1]:${http}`, `[::1]:${grpc}`]);
  });
});

it('a port-forward reaches a program that listens on either loopback address alone', async () => {
  for (const host of ['127.0.0.1', '::1']) {
    const server = createServer((socket) => socket.end('hello')).listen({ port: 0, host });
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const dial = spawn(process.execPath, ['local/kubelet/dial-main.ts', String(port)]);
    dial.stdin.end();
    let said = '';
    dial.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    dial.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await once(dial, 'close');
    server.close();
    assert.equal(said, 'hello', host);
  }
});
