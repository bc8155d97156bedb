// Our side of the benchmark: a ztunnel for each node in shared mode, fed over ZDS with the pods' namespaces as the
// node agent does it, workloads from a local file, certificates from a shared test root; and our waypoint.
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { decodeAck, encodeRequest, type ZdsRequest } from '../../common/zds/codec.ts';
import { SeqpacketServer } from '../../engine/reactor/seqpacket.ts';
import { PROXY_NODE_FLAGS } from '../../ztunnel/holder/node-flags.ts';
import type { CertFiles } from './pki.ts';
import { writePodRules } from './pod-redirection.ts';
import { ADDRESS, HTTP_PORT, SERVICE_VIP, type PodName, type Topology } from './topology.ts';

export type MeshKind = 'across' | 'same_node' | 'waypoint';
type NodeName = 'a' | 'b';

// For profiling our proxies: BENCH_NODE_FLAGS='--cpu-prof --cpu-prof-dir=/tmp/profiles' npm run bench -- ...
const NODE_FLAGS = (process.env['BENCH_NODE_FLAGS'] ?? '').split(' ').filter((flag) => flag !== '');

const SERVICE = 'bench/web.bench.svc.cluster.local';
const WAYPOINT_SERVICE = 'bench/waypoint.bench.svc.cluster.local';
const WAYPOINT_VIP = '10.96.99.10';

const uid = (pod: PodName): string => `Kubernetes//Pod/bench/${pod}`;
const nodeOf = (pod: PodName): NodeName => (pod === 'client' || pod === 'near' ? 'a' : 'b');

function workload(
  pod: PodName,
  services: Readonly<Record<string, unknown>>,
  isSeen: boolean,
): object {
  return {
    uid: uid(pod),
    name: pod,
    namespace: 'bench',
    serviceAccount: pod,
    trustDomain: 'cluster.local',
    workloadIps: [ADDRESS[pod]],
    protocol: 'HBONE',
    nodeLocal: true,
    l7Sight: isSeen,
    node: `node-${nodeOf(pod)}`,
    network: '',
    workloadName: pod,
    workloadType: 'deployment',
    canonicalName: pod,
    canonicalRevision: 'latest',
    clusterId: 'Kubernetes',
    services,
  };
}

/** The model both proxies read: four pods, and for the waypoint cases a service bound to the waypoint. */
function localState(kind: MeshKind, isSeen: boolean): string {
  const withWaypoint = kind === 'waypoint';
  const web = withWaypoint ? { [SERVICE]: { [HTTP_PORT]: HTTP_PORT } } : {};
  const service = (name: string, vip: string, port: number, extra: object): object => ({
    name,
    namespace: 'bench',
    hostname: `${name}.bench.svc.cluster.local`,
    vips: [`/${vip}`],
    ports: { [port]: port },
    subjectAltNames: [],
    ...extra,
  });
  const waypoint = { waypoint: { destination: WAYPOINT_SERVICE, hboneMtlsPort: 15008 } };
  return stringify({
    workloads: [
      workload('client', {}, isSeen),
      workload('near', {}, isSeen),
      workload('server', web, isSeen),
      workload('waypoint', withWaypoint ? { [WAYPOINT_SERVICE]: { 15008: 15008 } } : {}, false),
    ],
    services: withWaypoint
      ? [
          service('web', SERVICE_VIP, HTTP_PORT, waypoint),
          service('waypoint', WAYPOINT_VIP, 15008, {}),
        ]
      : [],
    policies: [],
  });
}

/** Serves ZDS to one proxy: adds the node's pods, then keeps the connection. */
async function serveZds(
  server: SeqpacketServer,
  topology: Topology,
  pods: readonly PodName[],
): Promise<void> {
  const socket = await server.accept();
  if (socket === undefined) throw new Error('bench: zds server closed before the proxy came');
  await socket.receive(); // ZdsHello
  const send = async (request: ZdsRequest, fds: readonly number[]): Promise<void> => {
    socket.send(encodeRequest(request), fds);
    const answer = await socket.receive();
    const error = answer === undefined ? 'the proxy closed the session' : decodeAck(answer.data);
    if (error !== undefined) throw new Error(`bench: zds: ${error}`);
  };
  for (const pod of pods) {
    const fd = openSync(`/run/netns/${topology.netns(pod)}`, 'r');
    const info = { name: pod, namespace: 'bench', serviceAccount: pod };
    await send({ kind: 'add', uid: uid(pod), pod: info }, [fd]);
    closeSync(fd);
  }
  await send({ kind: 'snapshotSent' }, []);
}

function proxyEnv(
  topology: Topology,
  root: CertFiles,
  kind: MeshKind,
  isSeen = false,
): NodeJS.ProcessEnv {
  const state = join(topology.dir, 'state.yaml');
  writeFileSync(state, localState(kind, isSeen));
  const testRoot = join(topology.dir, 'test-root.pem');
  writeFileSync(testRoot, readFileSync(root.cert, 'utf8') + readFileSync(root.key, 'utf8'), {
    mode: 0o600,
  });
  return {
    XDS_ADDRESS: '',
    CA_ADDRESS: '',
    FAKE_CA: 'true',
    FAKE_CA_ROOT: testRoot,
    LOCAL_XDS_PATH: state,
    // One access line for each connection goes to a log in production; here it would measure the terminal.
    RUST_LOG: 'warn',
    // As the images have it: the sources are compiled before the first start.
    NODE_COMPILE_CACHE: resolve('.ambient/bench/compile-cache'),
  };
}

async function startZtunnel(
  topology: Topology,
  node: NodeName,
  pods: readonly PodName[],
  env: NodeJS.ProcessEnv,
): Promise<ChildProcess> {
  const socketPath = join(topology.dir, `zds-${node}.sock`);
  const server = SeqpacketServer.listen(socketPath);
  const argv = [process.execPath, ...PROXY_NODE_FLAGS, ...NODE_FLAGS, 'ztunnel/main.ts'];
  const child = topology.spawn(node, argv, {
    ...env,
    NODE_NAME: `node-${node}`,
    INPOD_UDS: socketPath,
    ISTIO_META_DNS_CAPTURE: 'false',
  });
  await serveZds(server, topology, pods);
  for (const pod of pods) writePodRules(topology, pod);
  return child;
}

/** Starts the node proxies of a path, which look at HTTP if `isSeen`. Returns the processes to account. */
export async function startMesh(
  topology: Topology,
  kind: MeshKind,
  root: CertFiles,
  isSeen = false,
): Promise<ChildProcess[]> {
  const env = proxyEnv(topology, root, kind, isSeen);
  if (kind === 'same_node') return [await startZtunnel(topology, 'a', ['client', 'near'], env)];
  return [
    await startZtunnel(topology, 'a', ['client'], env),
    await startZtunnel(topology, 'b', ['server'], env),
  ];
}

/** Starts our waypoint with one route for the benchmark's service. */
export function startMeshWaypoint(topology: Topology, root: CertFiles): ChildProcess {
  const cluster = `outbound|${HTTP_PORT}||web.bench.svc.cluster.local`;
  const l7 = join(topology.dir, 'l7.yaml');
  const routes = [{ name: 'default', forward: { clusters: [{ cluster, weight: 1 }] } }];
  writeFileSync(
    l7,
    stringify({
      serviceRoutes: [
        {
          namespace: 'bench',
          hostname: 'web.bench.svc.cluster.local',
          name: 'web',
          ports: [{ servicePort: HTTP_PORT, protocol: 'HTTP', routes }],
        },
      ],
      clusters: [
        {
          name: cluster,
          namespace: 'bench',
          hostname: 'web.bench.svc.cluster.local',
          servicePort: HTTP_PORT,
        },
      ],
    }),
  );
  return topology.spawn('waypoint', [process.execPath, ...NODE_FLAGS, 'waypoint/main.ts'], {
    ...proxyEnv(topology, root, 'waypoint'),
    LOCAL_L7_PATH: l7,
    ACCESS_LOG: 'off',
    POD_NAME: 'waypoint',
    POD_NAMESPACE: 'bench',
    SERVICE_ACCOUNT: 'waypoint',
    INSTANCE_IP: ADDRESS.waypoint,
    NODE_NAME: 'node-b',
    GATEWAY_NAME: 'waypoint',
  });
}
