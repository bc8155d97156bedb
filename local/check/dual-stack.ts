// IPv6 is carried as IPv4 is: a Service with both families is reached by its IPv6 address and by name, through the
// mesh, and nothing of it crosses the bridge in plaintext; a pod with IPv6 alone is enrolled, and reaches it by name.
// Control: outside the mesh the capture shows the marker.
import { hasIpv6 } from '../ipv6.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import type { Pod } from '../cluster-api.ts';
import { FAMILY_ANNOTATION } from '../kubelet/pod-network.ts';
import { hasLine } from './access-log.ts';
import { require, type Bench } from './bench.ts';
import {
  expectPlain,
  type Lab,
  LAB,
  openLab,
  REDIRECTION,
  SERVER_URL,
  serverAddressV6,
  setEnrolled,
} from './lab.ts';
import type { Statement } from './statement.ts';

const SIX = 'client-v6';

/** A pod with IPv6 alone on the first node. */
const SIX_POD = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: SIX,
    namespace: LAB,
    labels: { app: SIX },
    annotations: { [FAMILY_ANNOTATION]: 'IPv6' },
  },
  spec: {
    nodeName: 'ambient-a',
    serviceAccountName: 'client',
    terminationGracePeriodSeconds: 0,
    containers: [
      { name: SIX, image: 'curlimages/curl', command: ['/bin/sleep', 'infinity'] },
      // Ready by a probe over IPv6, which must find its way into an enrolled pod.
      {
        name: 'web',
        image: 'ambient-mesh/httpbin',
        readinessProbe: { httpGet: { path: '/get', port: 8080 }, periodSeconds: 1 },
      },
    ],
  },
} as KubeObject;

/** The pod with IPv6 alone is probed, reaches the server by its name, and is reached, through the mesh. */
async function checkSix(bench: Bench, lab: Lab): Promise<void> {
  await bench.api.apply([SIX_POD], bench.signal);
  const six = await bench.until('the pod with IPv6 alone', async () => {
    const pod = await bench.pod(LAB, SIX);
    return pod.metadata?.annotations?.[REDIRECTION] === 'enabled' ? pod : undefined;
  });
  const { podIP = '' } = six.status ?? {};
  require(podIP.includes(':'), `${SIX} has the address ${podIP}`);
  await bench.until('an answer by name', async () => {
    const { status } = await bench.get(six, `${SERVER_URL}/get`);
    return status === 200 ? true : undefined;
  });
  const { status } = await bench.get(lab.client, `http://[${podIP}]:8080/get`);
  require(status === 200, `${SIX} answered ${status}`);
  const ztunnels = await bench.api.pods('istio-system', 'app=ztunnel');
  await bench.until('its tunnel in the access log', () => {
    const lines = ztunnels.flatMap((proxy) => bench.log(proxy).split('\n'));
    const fields = { direction: 'outbound', 'src.workload': SIX };
    const found = lines.some((line) => /dst\.hbone_addr/.test(line) && hasLine(line, fields));
    return Promise.resolve(found ? true : undefined);
  });
  await bench.api.client.json({ method: 'DELETE', path: `/api/v1/namespaces/${LAB}/pods/${SIX}` });
}

/** Whether the server's node proxy logged a tunnel to an IPv6 address from a proven client. */
async function isLogged(bench: Bench, server: Pod): Promise<boolean> {
  const ztunnels = await bench.api.pods('istio-system', 'app=ztunnel');
  const serving = ztunnels.find(({ spec }) => spec?.nodeName === server.spec?.nodeName);
  if (serving === undefined) return false;
  const lines = bench.log(serving).split('\n');
  return lines.some(
    (line) =>
      /dst\.hbone_addr"?[=:]"?\[fd00:/.test(line) &&
      hasLine(line, { direction: 'inbound', 'src.namespace': LAB }),
  );
}

export const dualStack: Statement = {
  name: 'dual stack: IPv6 is carried by the mesh as IPv4 is',
  async verify(bench) {
    if (!hasIpv6()) return 'this machine has no IPv6: nothing to carry';
    const lab = await openLab(bench);
    const url = `http://[${await serverAddressV6(bench)}]:8000`;
    await setEnrolled(bench, false);
    await expectPlain(bench, lab, true, url);
    await setEnrolled(bench, true);
    await expectPlain(bench, lab, false, url);
    await bench.until('a tunnel to an IPv6 address in the access log', async () =>
      (await isLogged(bench, lab.server)) ? true : undefined,
    );
    const byName = ['curl', '-6', '-s', '-o', '/dev/null', '-w', '%{http_code}', '-m', '5'];
    const { stdout } = await bench.exec(lab.client, [...byName, 'http://server.check:8000/get']);
    require(stdout === '200', `by name over IPv6: status ${stdout}`);
    await checkSix(bench, lab);
    return `${url} and the name answer, to a pod with IPv6 alone too, through the mesh; plaintext seen outside it, not inside`;
  },
};
