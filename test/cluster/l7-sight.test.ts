// HTTP between pods whose namespace asks for it is observed by the node proxies on its way: curl through tunnels and within a
// node is counted with method, code and gRPC status; nobody's bytes change, and who does not ask is not looked at.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { AppProtocol } from '../../common/workload/gen/workload_pb.ts';
import { l7SightExtension, nodeLocalExtension } from '../../common/workload/extensions.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'near', ip: '10.77.0.2', node: 'a' },
  { name: 'far', ip: '10.77.0.3', node: 'b' },
];
const REQUESTS = 'ambient_mesh_l7_requests_total';
const COUNT = 'ambient_mesh_l7_request_duration_milliseconds_count';
const CONNECTIONS = 'ambient_mesh_l7_connections_total';
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

async function publish(isSeen: boolean): Promise<void> {
  const extensions = [nodeLocalExtension(), ...(isSeen ? [l7SightExtension(100)] : [])];
  for (const { name } of PODS) await mesh.putPod(name, { extensions });
}

/** Runs curl in the client pod; what it printed. */
async function curl(...args: string[]): Promise<string> {
  const result = await mesh.runProgram('client', 'curl', ['-s', '-S', '-m', '20', ...args]);
  assert.deepEqual([result.status, result.stderr], [0, '']);
  return result.stdout;
}

/** Polls until a metric of a node has a value. */
async function counts(
  node: string,
  value: number,
  metric: string,
  ...labels: string[]
): Promise<void> {
  let found = -1;
  await eventually(`${node}: ${metric} ${labels.join()} is ${value}`, async () => {
    found = await mesh.metric(node, metric, ...labels);
    return found === value;
  }).catch((err: unknown) => {
    throw new Error(`it is ${found}`, { cause: err });
  });
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  for (const name of ['near', 'far']) {
    await mesh.startScript(name, ['test/support/http-server.ts']);
  }
  await mesh.startNode('a');
  await mesh.startNode('b');
  await publish(true);
  for (const { name } of PODS) await mesh.enrol(name);
});

after(() => mesh.close());

describe('L7 sight', () => {
  for (const [where, ip, destinationNode] of [
    ['through a tunnel', '10.77.0.3', 'b'],
    ['within a node', '10.77.0.2', 'a'],
  ] as const) {
    const to = `destination_workload="${where === 'within a node' ? 'near' : 'far'}"`;

    it(`counts HTTP/1 ${where}, once by each end`, async () => {
      const url = `http://${ip}:8080`;
      await curl(`${url}/200`, `${url}/200`, `${url}/404`, '-I', `${url}/503`);
      await curl('-d', 'hello', `${url}/201`);
      for (const [node, reporter] of [
        ['a', 'reporter="source"'],
        [destinationNode, 'reporter="destination"'],
      ] as const) {
        const labels = [to, reporter, 'source_workload="client"', 'request_protocol="http"'];
        // -I makes all of them HEAD.
        await counts(node, 2, REQUESTS, ...labels, 'HEAD', '"2xx"');
        await counts(node, 1, REQUESTS, ...labels, 'HEAD', '"4xx"');
        await counts(node, 1, REQUESTS, ...labels, 'HEAD', '"5xx"');
        await counts(node, 1, REQUESTS, ...labels, 'POST', '"2xx"');
        await counts(node, 5, COUNT, ...labels);
      }
    });

    it(`counts HTTP/2 and gRPC statuses ${where}`, async () => {
      const url = `http://${ip}:8081`;
      for (const path of ['/202', '/500', '/grpc/0', '/grpc/14']) {
        const body = path.startsWith('/grpc') ? ['-d', 'x'] : [];
        await curl('--http2-prior-knowledge', ...body, `${url}${path}`);
      }
      for (const [node, reporter] of [
        ['a', 'reporter="source"'],
        [destinationNode, 'reporter="destination"'],
      ] as const) {
        const labels = [to, reporter];
        await counts(node, 1, REQUESTS, ...labels, 'GET', '"5xx"', 'request_protocol="http"');
        await counts(node, 1, REQUESTS, ...labels, 'grpc_response_status="0"');
        await counts(node, 1, REQUESTS, ...labels, 'grpc_response_status="14"', '"grpc"');
      }
    });

    it(`leaves every byte as it is ${where}`, async () => {
      const bulk = randomBytes(24 << 20);
      const [sent, got] = [mesh.pathOf('sent'), mesh.pathOf('got')];
      writeFileSync(sent, bulk);
      for (const [port, ...how] of [
        ['8080', '-H', 'Expect:'],
        ['8081', '--http2-prior-knowledge'],
      ]) {
        await curl(...how, '--data-binary', `@${sent}`, '-o', got, `http://${ip}:${port}/202`);
        assert.equal(sha256(readFileSync(got)), sha256(bulk));
      }
      const labels = [to, 'reporter="destination"', 'POST', '"2xx"', 'request_protocol="http"'];
      await counts(destinationNode, 3, REQUESTS, ...labels);
    });

    it(`lets a server speak first ${where}`, async () => {
      const node = destinationNode;
      const before = await mesh.metric(node, CONNECTIONS, '"server_first"', '"destination"');
      const client = mesh.client('client', ip, 8082);
      assert.ok(client.stdout);
      const [greeting] = (await once(client.stdout, 'data')) as [Buffer];
      assert.match(greeting.toString(), /^220 welcome/);
      client.stdin?.end('hello\n');
      await once(client, 'close');
      await counts(node, before + 1, CONNECTIONS, '"server_first"', '"destination"');
    });
  }

  it('does not look at a port that its service declares to be no HTTP', async () => {
    const extensions = [nodeLocalExtension(), l7SightExtension(100)];
    const ports = (appProtocol: AppProtocol): object => ({
      services: { 'default/svc': { ports: [{ servicePort: 80, targetPort: 8080, appProtocol }] } },
    });
    const opaque = [CONNECTIONS, '"opaque"'] as const;
    for (const [name, node, ip] of [
      ['near', 'a', '10.77.0.2'],
      ['far', 'b', '10.77.0.3'],
    ] as const) {
      const to = `destination_workload="${name}"`;
      const seen = await mesh.metric(node, REQUESTS, to, '"destination"');
      const asked = await mesh.metric('a', REQUESTS, to, '"source"');
      await mesh.putPod(name, { extensions, ...ports(AppProtocol.TCP) });
      const before = await mesh.metric(node, ...opaque, '"destination"');
      const source = await mesh.metric('a', ...opaque, '"source"');
      await curl(`http://${ip}:8080/200`);
      await counts(node, before + 1, ...opaque, '"destination"');
      await counts('a', source + 1, ...opaque, '"source"');
      await mesh.putPod(name, { extensions, ...ports(AppProtocol.HTTP11) });
      await curl(`http://${ip}:8080/200`);
      await counts(node, seen + 1, REQUESTS, to, '"destination"');
      await counts('a', asked + 1, REQUESTS, to, '"source"');
    }
    await publish(true);
  });

  it('looks at as few connections as the namespace asks for, each end by its own', async () => {
    const extensions = [nodeLocalExtension(), l7SightExtension(0.001)];
    await mesh.putPod('client', { extensions });
    const sent = await mesh.metric('a', REQUESTS, '"source"');
    const served = await mesh.metric('b', REQUESTS, '"destination"');
    const before = await mesh.metric('a', CONNECTIONS, '"not_sampled"', '"source"');
    for (let at = 0; at < 5; at++) await curl('http://10.77.0.3:8080/200');
    await counts('a', before + 5, CONNECTIONS, '"not_sampled"', '"source"');
    await counts('b', served + 5, REQUESTS, '"destination"');
    assert.equal(await mesh.metric('a', REQUESTS, '"source"'), sent);
    await publish(true);
  });

  it('stops when the namespace asks no more, on running connections too', async () => {
    const seen = [REQUESTS, 'reporter="source"'] as const;
    const client = mesh.client('client', '10.77.0.3', 8080);
    assert.ok(client.stdout);
    const ask = async (): Promise<void> => {
      client.stdin?.write('GET /200 HTTP/1.1\r\nhost: a\r\n\r\n');
      if (client.stdout !== null) await once(client.stdout, 'data');
    };
    const before = await mesh.metric('a', ...seen);
    await ask();
    await counts('a', before + 1, ...seen);
    await publish(false);
    await counts('a', 1, CONNECTIONS, '"stopped"', '"source"');
    await ask();
    await curl('http://10.77.0.3:8080/200', 'http://10.77.0.2:8080/200');
    client.stdin?.end();
    await once(client, 'close');
    assert.equal(await mesh.metric('a', ...seen), before + 1);
    await publish(true);
    await curl('http://10.77.0.3:8080/200');
    await counts('a', before + 2, ...seen);
  });
});
