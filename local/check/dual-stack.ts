// IPv6 is carried as IPv4 is: a Service with both families is reached by its IPv6 address and by name, through the
// mesh, and nothing of it crosses the bridge in plaintext. Control: outside the mesh the capture shows the marker.
import { hasIpv6 } from '../ipv6.ts';
import type { Pod } from '../cluster-api.ts';
import { hasLine } from './access-log.ts';
import { require, type Bench } from './bench.ts';
import { expectPlain, openLab, serverAddressV6, setEnrolled } from './lab.ts';
import type { Statement } from './statement.ts';

const LAB_NAMESPACE = 'check';

/** Whether the server's node proxy logged a tunnel to an IPv6 address from a proven client. */
async function isLogged(bench: Bench, server: Pod): Promise<boolean> {
  const ztunnels = await bench.api.pods('istio-system', 'app=ztunnel');
  const serving = ztunnels.find(({ spec }) => spec?.nodeName === server.spec?.nodeName);
  if (serving === undefined) return false;
  const lines = bench.log(serving).split('\n');
  return lines.some(
    (line) =>
      /dst\.hbone_addr"?[=:]"?\[fd00:/.test(line) &&
      hasLine(line, { direction: 'inbound', 'src.namespace': LAB_NAMESPACE }),
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
    return `${url} and the name answer through the mesh; plaintext seen outside it, not inside`;
  },
};
