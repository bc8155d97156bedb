// A real waypoint process in a pod of a test mesh: it forwards the TCP ports of one service to its endpoints over tunnels, as
// the node proxies see it. Its configuration is a file; its certificates are the mesh's.
import type { NetnsMesh } from './netns-mesh.ts';
import { eventually } from './netns-mesh.ts';

/** What it forwards. */
export interface ForwardedService {
  readonly hostname: string;
  readonly vip: string;
  /** Target ports by service port. */
  readonly ports: Readonly<Record<number, number>>;
  /** The only endpoint: name (and account) and address. */
  readonly endpoint: { readonly name: string; readonly ip: string };
}

/** A running waypoint. */
export interface NetnsWaypoint {
  configDump(): Promise<Record<string, unknown>>;
}

/** Starts it in a pod, with the account `pod`; resolves when it is ready. `rootsPath`: the file with the mesh's roots. */
export async function startWaypoint(
  mesh: NetnsMesh,
  pod: string,
  service: ForwardedService,
  rootsPath: string,
): Promise<NetnsWaypoint> {
  const { hostname, vip, ports, endpoint } = service;
  const namespace = 'default';
  const servicePorts = Object.keys(ports).map(Number);
  const { name, ip } = endpoint;
  const workloads = {
    workloads: [
      {
        ...{ uid: name, name, namespace, serviceAccount: name, protocol: 'HBONE' },
        ...{ workloadIps: [ip], services: { [`${namespace}/${hostname}`]: ports } },
        // It is asked for the pod itself, too.
        waypoint: {
          destination: `${namespace}/${pod}.${namespace}.svc.cluster.local`,
          hboneMtlsPort: 15008,
        },
      },
    ],
    services: [{ name: 'waypoint-test', namespace, hostname, vips: [`/${vip}`], ports }],
  };
  const clusterOf = (port: number): string => `port-${port}`;
  const l7 = {
    clusters: servicePorts.map((servicePort) => ({
      ...{ name: clusterOf(servicePort), namespace, hostname, servicePort },
    })),
    serviceRoutes: [
      {
        ...{ namespace, hostname, name: 'waypoint-test' },
        ports: servicePorts.map((servicePort) => ({
          ...{ servicePort, protocol: 'TCP' },
          tcpClusters: [{ cluster: clusterOf(servicePort), weight: 1 }],
        })),
      },
    ],
  };
  const child = mesh.script(pod, ['waypoint/main.ts'], {
    ...{ XDS_ADDRESS: '', CA_ADDRESS: await mesh.controlPlaneFor(pod), CA_ROOT_CA: rootsPath },
    LOCAL_L7_PATH: mesh.writeFile('waypoint-l7.json', JSON.stringify(l7)),
    LOCAL_XDS_PATH: mesh.writeFile('waypoint-xds.json', JSON.stringify(workloads)),
    ...{ GATEWAY_NAME: pod, POD_NAMESPACE: namespace, SERVICE_ACCOUNT: pod },
  });
  let log = '';
  const keep = (chunk: Buffer): void => void (log += chunk.toString());
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  const isReady = ['-sf', 'http://127.0.0.1:15021/healthz/ready'];
  await eventually('the waypoint is ready', async () => {
    if (child.exitCode !== null) throw new Error(log);
    return (await mesh.runProgram(pod, 'curl', isReady)).status === 0;
  });
  return {
    configDump: async () => {
      const { stdout } = await mesh.runProgram(pod, 'curl', [
        '-sf',
        'http://127.0.0.1:15000/config_dump',
      ]);
      return JSON.parse(stdout) as Record<string, unknown>;
    },
  };
}
