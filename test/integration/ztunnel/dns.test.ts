// The DNS proxy of one pod over real sockets, with Node's own resolver (c-ares) as the client and real name servers.
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { decode, encode } from 'dns-packet';
import { systemClock } from '../../../common/clock.ts';
import { frameMessage, MessageReader } from '../../../common/dns/tcp-framing.ts';
import { SeriesReader, SeriesTable } from '../../../common/telemetry/series-table.ts';
import { WorkloadStore } from '../../../common/workload/store.ts';
import { openDnsSockets } from '../../../ztunnel/dns/dns-sockets.ts';
import { DNS_FAMILIES, DnsMetrics } from '../../../ztunnel/dns/dns-metrics.ts';
import { Forwarder } from '../../../ztunnel/dns/forwarder.ts';
import { PodDns } from '../../../ztunnel/dns/pod-dns.ts';
import type { DnsParts } from '../../../ztunnel/dns/query-handler.ts';
import type { NameServer } from '../../../ztunnel/dns/upstream-servers.ts';
import { openDnsUpstream } from '../../support/dns-upstream.ts';
import type { DnsUpstream } from '../../support/dns-upstream.ts';
import { freePort } from '../../support/free-port.ts';
import { makeService, makeWorkload } from '../../support/mesh-builders.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

const store = new WorkloadStore();
const series = new SeriesReader();
const table = new SeriesTable(DNS_FAMILIES, (message) => series.apply(message));
const POD = { name: 'client', namespace: 'default', serviceAccount: 'client' };
const servers: NameServer[] = [];
let upstream: DnsUpstream;
let parts: DnsParts;
let dns: PodDns;
let port = 0;
let hasIpv6 = false;
let resolver: Resolver;

before(async () => {
  store.upsertWorkload(makeWorkload('client', '10.1.0.1'));
  store.upsertService(makeService('web', '10.96.0.1'));
  store.upsertService(makeService('crowd', ''));
  for (let i = 0; i < 300; i++) {
    const services = { 'default/crowd.default.svc.cluster.local': [] };
    store.upsertWorkload(makeWorkload(`c-${i}`, `10.2.${i >> 8}.${i & 255}`, { services }));
  }
  upstream = await openDnsUpstream();
  const clock = systemClock;
  parts = {
    settings: { domain: 'cluster.local', isIpv6: true, preferredNamespace: undefined },
    store,
    forwarder: new Forwarder({ servers: () => servers, clock }),
    metrics: new DnsMetrics(table),
    clock,
    logger: quietLogger(),
    random: Math.random,
  };
  // A port that is free for UDP may be taken for TCP.
  for (let attempt = 0; port === 0; attempt++) {
    const probe = createSocket('udp4');
    await new Promise<void>((resolve) => probe.bind(0, '127.0.0.1', resolve));
    const free = probe.address().port;
    await new Promise<void>((resolve) => probe.close(() => resolve()));
    const addresses = ['127.0.0.1', '::1'];
    const options = { addresses, port: free, mark: undefined, isPortReuse: false };
    try {
      const sockets = openDnsSockets(undefined, options);
      hasIpv6 = sockets.some(({ family }) => family === 6);
      dns = new PodDns(parts, { pod: POD, netns: undefined, mark: undefined }, sockets);
      port = free;
    } catch (err) {
      if (attempt > 5) throw err;
    }
  }
  resolver = new Resolver({ tries: 1, timeout: 6000 });
  resolver.setServers([`127.0.0.1:${port}`]);
});

after(async () => {
  resolver.cancel();
  await dns.drain();
  upstream.close();
});

function useUpstreams(...ports: number[]): void {
  upstream.seen.length = 0;
  servers.splice(0, servers.length, ...ports.map((one) => ({ address: '127.0.0.1', port: one })));
}

function counted(metric: string, ...labels: string[]): number {
  let sum = 0;
  for (const [text, cell] of series.series.get(metric) ?? []) {
    if (labels.every((label) => text.includes(label))) sum += series.value(cell);
  }
  return sum;
}

/** Sends raw bytes over UDP; the first answer, or undefined after a while. */
async function raw(bytes: Buffer, waitMs = 300): Promise<Buffer | undefined> {
  const socket = createSocket('udp4');
  try {
    return await new Promise<Buffer | undefined>((resolve) => {
      const timer = setTimeout(() => resolve(undefined), waitMs);
      socket.once('message', (message) => {
        clearTimeout(timer);
        resolve(message);
      });
      socket.send(bytes, port, '127.0.0.1');
    });
  } finally {
    socket.close();
  }
}

function question(name: string, id = 7): Buffer {
  return encode({ type: 'query', id, questions: [{ type: 'A', name }] });
}

describe('dns proxy', () => {
  it('answers services itself, with the time to live of a service', async () => {
    useUpstreams();
    const found = await resolver.resolve4('web.default.svc.cluster.local', { ttl: true });
    assert.deepEqual(found, [{ address: '10.96.0.1', ttl: 30 }]);
    const labels = [
      'request_query_type="a"',
      'request_protocol="udp"',
      'source_canonical_service="client"',
    ];
    assert.equal(counted('istio_dns_requests', ...labels), 1);
    assert.equal(counted('istio_dns_upstream_requests', ...labels), 0);
  });

  it('says that a name without that type exists', async () => {
    await assert.rejects(resolver.resolve6('web.default.svc.cluster.local'), { code: 'ENODATA' });
  });

  it('cuts a long answer over UDP and gives all of it over TCP', async () => {
    const found = await resolver.resolve4('crowd.default.svc.cluster.local');
    assert.equal(new Set(found).size, 300);
    assert.equal(counted('istio_dns_requests', 'request_protocol="tcp"'), 1);
  });

  it('forwards what it does not know, in a question of its own id and port', async () => {
    useUpstreams(upstream.port);
    assert.deepEqual(await resolver.resolve4('www.example.com', { ttl: true }), [
      { address: '192.0.2.1', ttl: 7 },
    ]);
    const bytes = encode({
      type: 'query',
      id: 7,
      questions: [{ type: 'A', name: 'wWw.Example.COM' }],
    });
    const answer = await raw(bytes);
    assert.equal(answer && decode(answer).id, 7);
    assert.equal(answer && decode(answer).questions?.[0]?.name, 'wWw.Example.COM');
    await resolver.resolve4('www.example.com');
    assert.equal(new Set(upstream.seen.map(({ peerPort }) => peerPort)).size, 3);
    assert.deepEqual(upstream.seen[1]?.bytes.subarray(2), bytes.subarray(2));
  });

  it('leaves the names that a pod makes by its own search list to the name servers, as it wrote them', async () => {
    useUpstreams(upstream.port);
    // As a pod with `searches: [corp.example, nx.example]` asks for `web`, one after the other.
    assert.deepEqual(await resolver.resolve4('web.corp.example'), ['192.0.2.1']);
    await assert.rejects(resolver.resolve4('nx.web.example'), { code: 'ENOTFOUND' });
    const asked = upstream.seen.map(({ bytes }) => decode(bytes).questions?.[0]?.name);
    assert.deepEqual(asked, ['web.corp.example', 'nx.web.example']);
    // And at last the one that the mesh knows, whatever its own list says.
    assert.deepEqual(await resolver.resolve4('web.default.svc.cluster.local'), ['10.96.0.1']);
    assert.equal(upstream.seen.length, 2);
  });

  it('passes on other types', async () => {
    useUpstreams(upstream.port);
    const query = encode({ type: 'query', id: 9, questions: [{ type: 'SOA', name: 'web' }] });
    await raw(query);
    assert.deepEqual(upstream.seen[0]?.bytes.subarray(2), query.subarray(2));
  });

  for (const [name, opcode] of [
    ['STATUS', 2],
    ['NOTIFY', 4],
    ['UPDATE', 5],
  ] as const) {
    it(`says NOTIMP to ${name}, which no name server hears of`, async () => {
      useUpstreams(upstream.port);
      const message = encode({ type: 'query', id: 9, questions: [{ type: 'SOA', name: 'web' }] });
      message.writeUInt16BE(opcode << 11, 2);
      const before = counted('istio_dns_requests');
      const answer = await raw(message, 3000);
      assert.equal(answer?.readUInt16BE(0), 9);
      assert.equal((answer.readUInt16BE(2) >> 11) & 0xf, opcode);
      assert.equal(answer.readUInt16BE(2) & 0xf, 4);
      assert.equal(counted('istio_dns_requests'), before + 1);
      assert.equal(upstream.seen.length, 0);
    });
  }

  it('passes on that a name does not exist, and does not call it a failure', async () => {
    useUpstreams(upstream.port);
    const before = counted('istio_dns_upstream_failures');
    await assert.rejects(resolver.resolve4('nx.example.com'), { code: 'ENOTFOUND' });
    assert.equal(counted('istio_dns_upstream_failures'), before);
    assert.ok(counted('istio_dns_upstream_requests', 'request_query_type="a"') > 0);
  });

  it('passes on a truncated answer and forwards over TCP when asked over TCP', async () => {
    useUpstreams(upstream.port);
    assert.equal((await resolver.resolve4('big.example.com')).length, 200);
    assert.deepEqual(
      upstream.seen.map(({ transport }) => transport),
      ['udp', 'tcp'],
    );
  });

  it('believes only answers to its own question', async () => {
    useUpstreams(upstream.port);
    assert.deepEqual(await resolver.resolve4('forged.example.com'), ['192.0.2.1']);
  });

  it('skips at once a name server that refuses, and one that has no port open', async () => {
    const closed = await openDnsUpstream();
    closed.close();
    useUpstreams(closed.port, upstream.port);
    const startedMs = Date.now();
    assert.deepEqual(await resolver.resolve4('www.example.com'), ['192.0.2.1']);
    assert.ok(Date.now() - startedMs < 900);
  });

  it('asks the next name server when one is silent', async () => {
    const mute = await openDnsUpstream('127.0.0.1', 0, { isMute: true });
    useUpstreams(mute.port, upstream.port);
    const answer = await raw(question('www.example.com'), 6000);
    mute.close();
    assert.equal(answer && decode(answer).answers?.length, 1);
    assert.equal(mute.seen.length, 1);
  });

  it('answers SERVFAIL in time when no name server answers', async () => {
    const mute = await openDnsUpstream('127.0.0.1', 0, { isMute: true });
    useUpstreams(mute.port);
    const failures = counted('istio_dns_upstream_failures');
    const answer = await raw(question('www.example.com'), 6000);
    mute.close();
    assert.equal(answer && answer.readUInt16BE(2) & 0xf, 2);
    assert.equal(counted('istio_dns_upstream_failures'), failures + 1);
    assert.equal(mute.seen.length, 2);
  });

  it('answers SERVFAIL at once without name servers, and passes on that of the only one', async () => {
    useUpstreams();
    await assert.rejects(resolver.resolve4('www.example.com'), { code: 'ESERVFAIL' });
    useUpstreams(upstream.port);
    await assert.rejects(resolver.resolve4('servfail.example.com'), { code: 'ESERVFAIL' });
    assert.equal(upstream.seen.length, 1);
  });

  it('takes pipelined queries over one TCP connection in any pieces, and a half-close', async () => {
    useUpstreams(upstream.port);
    const names = ['web.default.svc.cluster.local', 'www.example.com', 'web'];
    const stream = Buffer.concat(
      names.map((name, id) =>
        frameMessage(encode({ type: 'query', id, questions: [{ type: 'A', name }] })),
      ),
    );
    const socket = connect(port, '127.0.0.1');
    const reader = new MessageReader();
    const answers: Buffer[] = [];
    socket.on('data', (chunk) => answers.push(...reader.push(chunk)));
    for (let at = 0; at < stream.length; at += 5) socket.write(stream.subarray(at, at + 5));
    socket.end();
    await new Promise((resolve) => socket.once('close', resolve));
    const found = answers.map((answer) => decode(answer)).sort((a, b) => (a.id ?? 0) - (b.id ?? 0));
    assert.deepEqual(
      found.map(({ answers: records }) =>
        records?.map((record) => 'data' in record && record.data),
      ),
      [['10.96.0.1'], ['192.0.2.1'], ['10.96.0.1']],
    );
  });

  it('ends a TCP connection on which nothing is asked for five seconds', async () => {
    const socket = connect(port, '127.0.0.1');
    const startedMs = Date.now();
    await new Promise((resolve) => socket.once('close', resolve));
    const tookMs = Date.now() - startedMs;
    assert.ok(tookMs > 4500 && tookMs < 9000, `${tookMs} ms`);
  });

  it('serves IPv6 as well, over UDP and TCP, and forwards over it', async (t) => {
    if (!hasIpv6) {
      t.skip('this machine has no ::1');
      return;
    }
    const other = await openDnsUpstream('::1');
    useUpstreams();
    servers.push({ address: '::1', port: other.port });
    const over6 = new Resolver({ tries: 1, timeout: 6000 });
    over6.setServers([`[::1]:${port}`]);
    try {
      assert.deepEqual(await over6.resolve4('web'), ['10.96.0.1']);
      assert.equal((await over6.resolve4('big.example.com')).length, 200);
      assert.deepEqual(
        other.seen.map(({ transport }) => transport),
        ['udp', 'tcp'],
      );
    } finally {
      over6.cancel();
      other.close();
    }
  });

  it('serves IPv4 on the wildcard of IPv6, over UDP and TCP', async (t) => {
    if (!hasIpv6) {
      t.skip('this machine has no ::1');
      return;
    }
    const options = { addresses: ['::'], port: await freePort(), mark: undefined };
    const sockets = openDnsSockets(undefined, { ...options, isPortReuse: false });
    const wide = new PodDns(parts, { pod: POD, netns: undefined, mark: undefined }, sockets);
    const over4 = new Resolver({ tries: 1, timeout: 6000 });
    over4.setServers([`127.0.0.1:${options.port}`]);
    try {
      assert.deepEqual(await over4.resolve4('web'), ['10.96.0.1']);
      // Too long for UDP.
      const found = await over4.resolve4('crowd.default.svc.cluster.local');
      assert.equal(new Set(found).size, 300);
    } finally {
      over4.cancel();
      await wide.drain();
    }
  });

  it('says FORMERR to an answer, but nothing to that: it would go on for ever between two', async () => {
    const response = encode({ type: 'response', id: 1, questions: [{ type: 'A', name: 'web' }] });
    const answer = await raw(response, 3000);
    assert.ok(answer);
    assert.equal(answer.readUInt16BE(2) & 0x800f, 0x8001);
    assert.equal(await raw(answer), undefined);
  });

  it('gives no answer to what is no message', async () => {
    assert.equal(await raw(Buffer.from('short')), undefined);
  });

  it('says FORMERR to a query that cannot be read', async () => {
    const query = encode({ type: 'query', id: 3, questions: [{ type: 'A', name: 'web' }] });
    const answer = await raw(query.subarray(0, query.length - 3));
    assert.equal(answer && answer.readUInt16BE(2) & 0xf, 1);
  });
});
