// Gigabytes with checksums, up and then down over one connection, by the same-node path or across nodes.
// `npm run soak -- checksum --gb 10 --path same_node`.
import { NODE_LOCAL_EXTENSION } from '../../common/workload/extensions.ts';
import { serveChecksums, transfer } from '../support/checked-transfer.ts';
import type { TransferReport } from '../support/checked-transfer.ts';
import { NetnsMesh } from '../support/netns-mesh.ts';
import { residentMb, SERVER_IP } from './soak-mesh.ts';

export const TRANSFER_PATHS = ['same_node', 'across'] as const;
export type TransferPath = (typeof TRANSFER_PATHS)[number];

/** Speed in Gbit/s each way; memory of the client's proxy at its highest. */
export interface ChecksumReport extends TransferReport {
  readonly path: TransferPath;
  readonly gbitUp: number;
  readonly gbitDown: number;
  readonly residentMb: number;
}

const SAME_NODE_IP = '10.77.0.2';

/** One transfer. */
export async function measureChecksum(path: TransferPath, gb: number): Promise<ChecksumReport> {
  const mesh = new NetnsMesh();
  try {
    await mesh.start();
    const host = path === 'across' ? SERVER_IP : SAME_NODE_IP;
    mesh.addPod({ name: 'client', ip: '10.77.0.1', node: 'a' });
    mesh.addPod({ name: 'server', ip: host, node: path === 'across' ? 'b' : 'a' });
    await serveChecksums(mesh, 'server');
    for (const node of path === 'across' ? ['a', 'b'] : ['a']) await mesh.startNode(node);
    for (const name of ['client', 'server']) {
      await mesh.putPod(name, { extensions: [{ name: NODE_LOCAL_EXTENSION }] });
      await mesh.enrol(name);
    }
    const bytes = Math.round(gb * 1e9);
    const report = await transfer(mesh, 'client', host, bytes);
    const gbit = (ms: number): number => Number(((bytes * 8) / ms / 1e6).toFixed(2));
    return {
      path,
      ...report,
      gbitUp: gbit(report.upMs),
      gbitDown: gbit(report.downMs),
      residentMb: residentMb(mesh.pid('a'), 'VmHWM'),
    };
  } finally {
    await mesh.close();
  }
}
