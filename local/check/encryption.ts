// Traffic between nodes is TLS 1.3 on 15008, and no plaintext of it crosses the bridge. Control: outside the mesh
// the same capture shows the marker.
import { require } from './bench.ts';
import { serverVersions } from './frames.ts';
import { expectPlain, openLab, probeBridge, setEnrolled } from './lab.ts';
import type { Statement } from './statement.ts';

const HBONE_PORT = 15008;
const TLS_1_3 = 0x0304;

export const encryption: Statement = {
  name: 'encryption: TLS 1.3 on 15008 between nodes, no plaintext on the bridge',
  async verify(bench) {
    const lab = await openLab(bench);
    await setEnrolled(bench, false);
    // The control: the capture shows plain traffic.
    await expectPlain(bench, lab, true);
    await setEnrolled(bench, true);
    // The first connection through the tunnel is in the capture: its handshake shows the version.
    const versions: number[] = [];
    const meshed = await bench.until('a request without plaintext', async () => {
      const probe = await probeBridge(bench, lab);
      versions.push(...serverVersions(probe.frames, HBONE_PORT));
      return probe.isPlain || probe.status !== 200 ? undefined : probe;
    });
    require(!meshed.isPlain, 'plaintext crossed the bridge');
    require(versions.length > 0, 'no TLS handshake on 15008 was captured');
    require(versions.every(
      (version) => version === TLS_1_3,
    ), `TLS version ${versions.map((version) => version.toString(16)).join()}`);
    return `marker seen outside the mesh, not inside; ${versions.length} TLS 1.3 handshakes`;
  },
};
