// The control plane as a process against the local API server: xDS and CA over TLS with real tokens, through the
// proxies' own clients; waypoints deployed; a pod that leaves; a restart.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { parseAllDocuments } from 'yaml';
import { systemClock } from '../../../common/clock.ts';
import { CaClient } from '../../../common/grpc/ca-client.ts';
import type { ControlPlaneAddress } from '../../../common/grpc/channel.ts';
import { deltaStreamOpener } from '../../../common/grpc/delta-stream.ts';
import { buildCsr, generateKeyPair } from '../../../common/identity/csr.ts';
import { readCertificate } from '../../../common/identity/x509.ts';
import { KubeClient } from '../../../common/kube/client.ts';
import { loadConnection } from '../../../common/kube/connection.ts';
import { KINDS, objectPath } from '../../../common/kube/resource.ts';
import type { KubeObject } from '../../../common/kube/resource.ts';
import { createLoggerRoot } from '../../../common/telemetry/logger.ts';
import { AddressSchema } from '../../../common/workload/gen/workload_pb.ts';
import type { Address } from '../../../common/workload/gen/workload_pb.ts';
import { readL7Percent } from '../../../common/workload/extensions.ts';
import { formatIp } from '../../../common/workload/ip.ts';
import { DeltaClient, subscribeWith } from '../../../common/xds/delta-client.ts';

interface NamespaceEvent extends KubeObject {
  readonly reason: string;
  readonly note: string;
  readonly regarding: { readonly kind: string; readonly name: string };
}

const ADDRESS = 'type.googleapis.com/istio.workload.Address';
const ROUTES = 'type.googleapis.com/ambientmesh.l7.v1.ServiceRoutes';
const dir = mkdtempSync(join(tmpdir(), 'ambient-cp-'));
const children: ChildProcess[] = [];
/** Those of a failed test would reconnect for ever. */
const clients: DeltaClient[] = [];
const logger = createLoggerRoot({ level: 'off' }).scope('test');
let kube: KubeClient;
let controlPlane: { child: ChildProcess; tlsPort: number; httpPort: number };

async function until<T>(
  what: string,
  read: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const value = await read();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Starts a program and waits for a JSON log line with a field. */
async function start(script: string, args: string[], env: Record<string, string>, field: string) {
  const child = spawn(process.execPath, [script, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  let text = '';
  let line: Record<string, unknown> | undefined;
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const one of lines) {
      const parsed = JSON.parse(one) as Record<string, unknown>;
      if (parsed[field] !== undefined) line ??= parsed;
    }
  });
  const found = await until(`${script} to start`, () => line);
  return { child, line: found };
}

async function startControlPlane(tlsPort = 0): Promise<typeof controlPlane> {
  const { child, line } = await start(
    'controlplane/main.ts',
    [],
    {
      KUBECONFIG: join(dir, 'kubeconfig'),
      LISTEN_HOST: '127.0.0.1',
      XDS_TLS_PORT: String(tlsPort),
      HTTP_PORT: '0',
    },
    'tlsPort',
  );
  return { child, tlsPort: Number(line['tlsPort']), httpPort: Number(line['httpPort']) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

async function target(token: string): Promise<ControlPlaneAddress> {
  const configMap = await until('root configmap', () =>
    kube.get<{ data: Record<string, string> }>({
      kind: KINDS.configMaps,
      namespace: 'istio-system',
      name: 'istio-ca-root-cert',
    }),
  );
  return {
    address: `https://localhost:${controlPlane.tlsPort}`,
    root: configMap.data['root-cert.pem'] ?? '',
    altHostname: 'istiod.istio-system.svc',
    token,
    clusterId: 'Kubernetes',
  };
}

async function createPod(
  namespace: string,
  name: string,
  account: string,
  at: { node: string; ip: string },
  extra: object = {},
): Promise<void> {
  const { node, ip } = at;
  await kube.create(KINDS.pods, {
    metadata: { namespace, name, ...extra },
    spec: {
      serviceAccountName: account,
      nodeName: node,
      containers: [{ name: 'app', image: 'x' }],
    },
  } as KubeObject);
  await kube.mergePatch(
    { kind: KINDS.pods, namespace, name },
    {
      status: {
        phase: 'Running',
        podIP: ip,
        podIPs: [{ ip }],
        conditions: [{ type: 'Ready', status: 'True' }],
      },
    },
    'status',
  );
}

async function tokenOf(namespace: string, account: string, pod: string): Promise<string> {
  const bound = await kube.get<KubeObject>({ kind: KINDS.pods, namespace, name: pod });
  const answer = await kube.json<{ status: { token: string } }>({
    method: 'POST',
    path: objectPath(KINDS.serviceAccounts, namespace, account, 'token'),
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: ['istio-ca'],
        expirationSeconds: 3600,
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod, uid: bound?.metadata?.uid },
      },
    },
  });
  return answer.status.token;
}

/** A node proxy's view of the addresses; with a node's name one that asks on demand. */
async function openProxy(
  token: string,
  account: { namespace: string; name: string },
  node?: string,
) {
  const missing: string[] = [];
  const addresses = new Map<string, Address>();
  const received: string[] = [];
  let streams = 0;
  const open = deltaStreamOpener(await target(token));
  const client = new DeltaClient({
    nodeId: `ztunnel~10.0.0.1~zt.${account.namespace}~${account.namespace}.svc.cluster.local`,
    nodeMetadata: {
      NAMESPACE: account.namespace,
      SERVICE_ACCOUNT: account.name,
      ...(node !== undefined && { NODE_NAME: node }),
    },
    clock: systemClock,
    logger,
    openStream: (events) => {
      streams++;
      return open(events);
    },
    subscriptions: [
      subscribeWith(
        ADDRESS,
        (value) => fromBinary(AddressSchema, value),
        ({ upserts, removed }) => {
          for (const { name, resource } of upserts) {
            addresses.set(name, resource);
            received.push(name);
          }
          for (const name of removed) addresses.delete(name);
          missing.push(...removed);
        },
        node === undefined ? undefined : { answered: [], unanswered: [] },
      ),
    ],
  });
  clients.push(client);
  client.start();
  return { client, addresses, received, missing, streams: () => streams };
}

before(async () => {
  const { line } = await start(
    'local/apiserver/main.ts',
    [
      '--data',
      join(dir, 'api'),
      '--listen',
      '127.0.0.1:0',
      '--kubeconfig-out',
      join(dir, 'kubeconfig'),
    ],
    {},
    'ready',
  );
  assert.ok(line);
  kube = new KubeClient(await loadConnection({ kubeconfig: join(dir, 'kubeconfig') }));
  await kube.create(KINDS.namespaces, { metadata: { name: 'istio-system' } });
  // The control plane is up before any of its kinds is installed.
  controlPlane = await startControlPlane();
  for (const file of readdirSync('manifests/crds').filter((name) => name.endsWith('.yaml'))) {
    for (const document of parseAllDocuments(readFileSync(join('manifests/crds', file), 'utf8'))) {
      const crd = document.toJS() as KubeObject | null;
      if (crd !== null) await kube.apply(KINDS.customResourceDefinitions, crd, 'test');
    }
  }
  for (const [namespace, account] of [
    ['istio-system', 'ztunnel'],
    ['istio-system', 'other'],
    ['shop', 'cart'],
  ] as const) {
    if (account === 'cart') await kube.create(KINDS.namespaces, { metadata: { name: namespace } });
    await kube.create(KINDS.serviceAccounts, { metadata: { namespace, name: account } });
  }
  await createPod('istio-system', 'zt', 'ztunnel', { node: 'a', ip: '10.0.0.1' });
  await createPod('istio-system', 'other', 'other', { node: 'a', ip: '10.0.0.2' });
  await createPod(
    'shop',
    'cart-1',
    'cart',
    { node: 'a', ip: '10.0.1.1' },
    {
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
    },
  );
});

after(async () => {
  for (const client of clients) client.close();
  kube.close();
  for (const child of children.reverse()) await stop(child);
  rmSync(dir, { recursive: true, force: true });
});

describe('control plane', () => {
  it('issues certificates: a workload its own, a node proxy those of its node', async () => {
    const sign = async (token: string, impersonatedIdentity?: string): Promise<string> => {
      const client = new CaClient(await target(token));
      try {
        const chain = await client.sign({
          csrPem: buildCsr('spiffe://x/ns/y/sa/z', generateKeyPair()),
          ttlSec: 600,
          ...(impersonatedIdentity === undefined ? {} : { impersonatedIdentity }),
        });
        return readCertificate(chain[0] ?? '').uriSans.join();
      } finally {
        client.close();
      }
    };
    const cart = 'spiffe://cluster.local/ns/shop/sa/cart';
    const proxyToken = await tokenOf('istio-system', 'ztunnel', 'zt');
    assert.equal(await sign(await tokenOf('shop', 'cart', 'cart-1')), cart);
    assert.equal(
      await until('pod in the watch', () => sign(proxyToken, cart).catch(() => undefined)),
      cart,
    );
    const otherToken = await tokenOf('istio-system', 'other', 'other');
    await assert.rejects(sign(otherToken, cart), { code: 'ca_failed' });
    await assert.rejects(sign('not a token'.replaceAll(' ', '-')), /token/);
    await assert.rejects(sign(proxyToken, 'spiffe://cluster.local/ns/shop/sa/nobody'), /identity/);
  });

  it('refuses a stream whose node metadata does not fit the token', async () => {
    const token = await tokenOf('istio-system', 'other', 'other');
    const ends: string[] = [];
    const open = deltaStreamOpener(await target(token));
    const client = new DeltaClient({
      nodeId: 'ztunnel~1.1.1.1~zt.istio-system~istio-system.svc.cluster.local',
      nodeMetadata: { NAMESPACE: 'istio-system', SERVICE_ACCOUNT: 'ztunnel' },
      subscriptions: [
        subscribeWith(
          ADDRESS,
          () => 0,
          () => undefined,
        ),
      ],
      clock: systemClock,
      logger,
      openStream: open,
      onStreamEnd: ({ detail }) => ends.push(detail),
    });
    clients.push(client);
    client.start();
    const detail = await until('refusal', () => ends[0]);
    client.close();
    assert.match(detail, /PERMISSION_DENIED/);
  });

  it('sends addresses, and a lone change without waiting for more', async () => {
    const proxy = await openProxy(await tokenOf('istio-system', 'ztunnel', 'zt'), {
      namespace: 'istio-system',
      name: 'ztunnel',
    });
    await until('cart', () => proxy.addresses.get('Kubernetes//Pod/shop/cart-1'));
    const startedAt = performance.now();
    await createPod('shop', 'cart-2', 'cart', { node: 'b', ip: '10.0.1.2' });
    await until('cart-2', () => proxy.addresses.get('Kubernetes//Pod/shop/cart-2'));
    assert.ok(performance.now() - startedAt < 2000);
    await kube.json({
      method: 'DELETE',
      path: objectPath(KINDS.pods, 'shop', 'cart-2'),
      query: { gracePeriodSeconds: '0' },
    });
    await until('removal', () =>
      proxy.addresses.has('Kubernetes//Pod/shop/cart-2') ? undefined : true,
    );
    proxy.client.close();
  });

  it('on demand sends a node its own pods, and of others what is asked for', async () => {
    await createPod('shop', 'cart-3', 'cart', { node: 'b', ip: '10.0.1.3' });
    const account = { namespace: 'istio-system', name: 'ztunnel' };
    const proxy = await openProxy(await tokenOf('istio-system', 'ztunnel', 'zt'), account, 'a');
    await until('own pod', () => proxy.addresses.get('Kubernetes//Pod/shop/cart-1'));
    proxy.client.changeNames(ADDRESS, ['/10.0.1.99'], []);
    await until('absence', () => (proxy.missing.includes('/10.0.1.99') ? true : undefined));
    assert.equal(proxy.addresses.has('Kubernetes//Pod/shop/cart-3'), false);
    proxy.client.changeNames(ADDRESS, ['/10.0.1.3'], []);
    await until('asked for', () => proxy.addresses.get('Kubernetes//Pod/shop/cart-3'));
    await kube.json({
      method: 'DELETE',
      path: objectPath(KINDS.pods, 'shop', 'cart-3'),
      query: { gracePeriodSeconds: '0' },
    });
    await until('removal', () =>
      proxy.addresses.has('Kubernetes//Pod/shop/cart-3') ? undefined : true,
    );
    proxy.client.close();
  });

  it('tells proxies the rate of L7 sight; a wrong one is an event on the namespace and changes nothing', async () => {
    const label = (value: string): Promise<unknown> =>
      kube.mergePatch(
        { kind: KINDS.namespaces, name: 'shop' },
        {
          metadata: {
            labels: {
              'ambient-mesh.io/l7-sight': 'enabled',
              'ambient-mesh.io/l7-sight-percent': value,
            },
          },
        },
      );
    const proxy = await openProxy(await tokenOf('istio-system', 'ztunnel', 'zt'), {
      namespace: 'istio-system',
      name: 'ztunnel',
    });
    const rate = (): number | undefined => {
      const record = proxy.addresses.get('Kubernetes//Pod/shop/cart-1')?.type;
      return record?.case === 'workload' ? readL7Percent(record.value.extensions) : undefined;
    };
    await until('nothing asked', () => (rate() === 0 ? true : undefined));
    await label('2.5');
    await until('the rate', () => (rate() === 2.5 ? true : undefined));
    await label('many');
    const path = '/apis/events.k8s.io/v1/namespaces/default/events';
    const event = await until('the event', async () => {
      const { items } = await kube.json<{ items: NamespaceEvent[] }>({ method: 'GET', path });
      return items.find(({ regarding }) => regarding.kind === 'Namespace');
    });
    assert.deepEqual([event.reason, event.regarding.name], ['Invalid', 'shop']);
    assert.match(event.note, /^Namespace shop: label ambient-mesh\.io\/l7-sight-percent is "many"/);
    assert.equal(rate(), 2.5);
    await label('0');
    await until('nothing asked', () => (rate() === 0 ? true : undefined));
    proxy.client.close();
  });

  it('gives a service entry without addresses virtual ones, in its status and to the proxies', async () => {
    const proxy = await openProxy(await tokenOf('istio-system', 'ztunnel', 'zt'), {
      namespace: 'istio-system',
      name: 'ztunnel',
    });
    await kube.create(KINDS.serviceEntries, {
      metadata: { namespace: 'shop', name: 'api' },
      spec: {
        hosts: ['api.example.com'],
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
        resolution: 'STATIC',
        endpoints: [{ address: '192.0.2.1' }],
      },
    } as KubeObject);
    const told = await until('addresses', () => {
      const type = proxy.addresses.get('shop/api.example.com')?.type;
      const all = type?.case === 'service' ? type.value.addresses : [];
      return all.length === 2 ? all.map(({ address }) => formatIp(address) ?? '') : undefined;
    });
    const ref = { kind: KINDS.serviceEntries, namespace: 'shop', name: 'api' };
    const entry = await kube.get<{ status?: { addresses?: { value: string; host: string }[] } }>(
      ref,
    );
    const written = entry?.status?.addresses ?? [];
    assert.deepEqual(
      written.map(({ value }) => value),
      told,
    );
    assert.match(told.join(' '), /^240\.240\.\d+\.\d+ 2001:2::[0-9a-f]+$/);
    assert.ok(written.every(({ host }) => host === 'api.example.com'));
    proxy.client.close();
  });

  it('gives the proxies what a service entry selects: pods and workload entries', async () => {
    const proxy = await openProxy(await tokenOf('istio-system', 'ztunnel', 'zt'), {
      namespace: 'istio-system',
      name: 'ztunnel',
    });
    const labels = { app: 'vm' };
    await kube.create(KINDS.workloadEntries, {
      metadata: { namespace: 'shop', name: 'vm-1' },
      spec: { address: '192.0.2.7', ports: { http: 7070 }, labels, serviceAccount: 'cart' },
    } as KubeObject);
    await kube.create(KINDS.serviceEntries, {
      metadata: { namespace: 'shop', name: 'vms' },
      spec: {
        hosts: ['vms.example.com'],
        ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
        resolution: 'STATIC',
        workloadSelector: { labels },
      },
    } as KubeObject);
    const uid = 'Kubernetes/networking.istio.io/WorkloadEntry/shop/vm-1';
    const port = await until('the workload entry as an endpoint', () => {
      const type = proxy.addresses.get(uid)?.type;
      const services = type?.case === 'workload' ? type.value.services : {};
      return services['shop/vms.example.com']?.ports[0]?.targetPort;
    });
    assert.equal(port, 7070);
    await kube.json({
      method: 'DELETE',
      path: objectPath(KINDS.workloadEntries, 'shop', 'vm-1'),
    });
    await until('removal', () => (proxy.addresses.has(uid) ? undefined : true));
    proxy.client.close();
  });

  it('confirms a leaving pod once the proxies know it without hbone', async () => {
    const proxy = await openProxy(await tokenOf('istio-system', 'ztunnel', 'zt'), {
      namespace: 'istio-system',
      name: 'ztunnel',
    });
    const tunnelOf = (): unknown => {
      const type = proxy.addresses.get('Kubernetes//Pod/shop/cart-1')?.type;
      return type?.case === 'workload' ? type.value.tunnelProtocol : undefined;
    };
    await until('hbone', () => (tunnelOf() === 1 ? true : undefined));
    const ref = { kind: KINDS.pods, namespace: 'shop', name: 'cart-1' };
    await kube.mergePatch(ref, {
      metadata: {
        annotations: { 'ambient.istio.io/redirection': null, 'ambient-mesh.io/leaving': '17' },
      },
    });
    await until('withdrawn', async () => {
      const pod = await kube.get<KubeObject>(ref);
      return pod?.metadata?.annotations?.['ambient-mesh.io/withdrawn'] === '17' ? true : undefined;
    });
    assert.equal(tunnelOf(), 0);
    proxy.client.close();
  });

  it('deploys a waypoint, gives it an address when it is ready, and serves only its own pods', async () => {
    await kube.create(KINDS.gateways, {
      metadata: { namespace: 'shop', name: 'waypoint' },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    } as KubeObject);
    const service = await until('service', () =>
      kube.get<KubeObject & { spec: { clusterIPs: string[] } }>({
        kind: KINDS.services,
        namespace: 'shop',
        name: 'waypoint',
      }),
    );
    assert.equal(service.metadata?.ownerReferences?.[0]?.kind, 'Gateway');
    type Status = {
      status?: {
        addresses?: Array<{ value: string }>;
        conditions?: Array<{ type: string; status: string }>;
      };
    };
    const gateway = (): Promise<Status | undefined> =>
      kube.get<Status>({ kind: KINDS.gateways, namespace: 'shop', name: 'waypoint' });
    await until('accepted', async () =>
      (await gateway())?.status?.conditions?.find(
        (c) => c.type === 'Accepted' && c.status === 'True',
      ),
    );
    assert.deepEqual((await gateway())?.status?.addresses ?? [], []);
    await createPod(
      'shop',
      'wp-1',
      'waypoint',
      { node: 'a', ip: '10.0.1.9' },
      {
        labels: { 'gateway.networking.k8s.io/gateway-name': 'waypoint' },
      },
    );
    await kube.apply(
      KINDS.endpointSlices,
      {
        metadata: {
          namespace: 'shop',
          name: 'waypoint-x',
          labels: { 'kubernetes.io/service-name': 'waypoint' },
        },
        addressType: 'IPv4',
        endpoints: [{ addresses: ['10.0.1.9'], conditions: { ready: true } }],
        ports: [{ name: 'mesh', port: 15008, protocol: 'TCP' }],
      } as KubeObject,
      'test',
    );
    const ready = await until('addresses', async () => {
      const found = await gateway();
      return (found?.status?.addresses ?? []).length > 0 ? found : undefined;
    });
    assert.deepEqual(
      ready.status?.addresses?.map(({ value }) => value),
      [...service.spec.clusterIPs, 'waypoint.shop.svc.cluster.local'],
    );
    const subscribe = async (token: string, metadata: Record<string, string>): Promise<string> => {
      const events: string[] = [];
      const client = new DeltaClient({
        nodeId: 'waypoint~10.0.1.9~wp-1.shop~shop.svc.cluster.local',
        nodeMetadata: metadata,
        subscriptions: [
          subscribeWith(
            ROUTES,
            () => 0,
            () => void events.push('served'),
          ),
        ],
        clock: systemClock,
        logger,
        openStream: deltaStreamOpener(await target(token)),
        onStreamEnd: ({ detail }) => events.push(detail),
      });
      clients.push(client);
      client.start();
      const first = await until('answer', () => events[0]);
      client.close();
      return first;
    };
    const own = await tokenOf('shop', 'waypoint', 'wp-1');
    const names = { NAMESPACE: 'shop', SERVICE_ACCOUNT: 'waypoint', GATEWAY_NAME: 'waypoint' };
    assert.equal(await subscribe(own, names), 'served');
    const foreign = await tokenOf('shop', 'cart', 'cart-1');
    assert.match(
      await subscribe(foreign, { NAMESPACE: 'shop', GATEWAY_NAME: 'waypoint' }),
      /PERMISSION_DENIED/,
    );
  });

  it('resumes after kill -9 without sending again what proxies hold', async () => {
    const proxy = await openProxy(await tokenOf('istio-system', 'ztunnel', 'zt'), {
      namespace: 'istio-system',
      name: 'ztunnel',
    });
    await until('cart', () => proxy.addresses.get('Kubernetes//Pod/shop/cart-1'));
    await until('the waypoint’s pod', () => proxy.addresses.get('Kubernetes//Pod/shop/wp-1'));
    await until('the waypoint', () => proxy.addresses.get('shop/waypoint.shop.svc.cluster.local'));
    // What the tests before left behind may still be on its way out.
    const known = await until('every address, and no other', async () => {
      const metrics = await fetch(`http://127.0.0.1:${controlPlane.httpPort}/metrics`);
      const count = /ambient_resources\{type="Address"\} (\d+)/.exec(await metrics.text())?.[1];
      return Number(count) === proxy.addresses.size ? proxy.addresses.size : undefined;
    });
    const root = (await target('')).root;
    controlPlane.child.kill('SIGKILL');
    await once(controlPlane.child, 'exit');
    proxy.received.length = 0;
    controlPlane = await startControlPlane(controlPlane.tlsPort);
    await createPod('shop', 'cart-3', 'cart', { node: 'b', ip: '10.0.1.3' });
    await until('cart-3', () => proxy.addresses.get('Kubernetes//Pod/shop/cart-3'));
    assert.ok(proxy.streams() >= 2);
    assert.equal(proxy.addresses.size, known + 1);
    assert.deepEqual([...new Set(proxy.received)], ['Kubernetes//Pod/shop/cart-3']);
    assert.equal((await target('')).root, root);
    proxy.client.close();
  });

  it('answers readiness, metrics and debug pages', async () => {
    const get = async (path: string): Promise<string> => {
      const answer = await fetch(`http://127.0.0.1:${controlPlane.httpPort}${path}`);
      assert.equal(answer.status, 200, path);
      return answer.text();
    };
    assert.equal(await get('/readyz'), 'ok\n');
    assert.match(await get('/metrics'), /ambient_resources\{type="Address"\} \d+/);
    assert.match(await get('/debug/registryz'), /Pod\/shop\/cart-1/);
    for (const path of [
      '/debug/syncz',
      '/debug/verdicts',
      '/debug/config',
      '/debug/configz',
      '/debug/ambientz',
    ]) {
      JSON.parse(await get(path));
    }
  });

  it('ends by itself on SIGTERM', async () => {
    controlPlane.child.kill('SIGTERM');
    const [code] = (await once(controlPlane.child, 'exit')) as [number | null];
    assert.equal(code, 0);
  });
});
