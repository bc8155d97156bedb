// The proxies' memory stays within its bound under idle connections, streams, slow readers, a scan and many workloads. Smaller than
// the promise, which `npm run soak -- memory` checks; the scan leaves as many connects waiting at once as a pod may have (4,096).
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { measureMemory } from '../soak/memory.ts';

it('memory stays within its bound', async () => {
  const reports = await measureMemory({
    idleConnections: 500,
    openStreams: 500,
    slowReaders: 20,
    scannedAddresses: 9000,
    workloads: 5000,
  });
  assert.equal(reports.length, 5);
  for (const report of reports) assert.ok(report.isWithin, JSON.stringify(report));
});
