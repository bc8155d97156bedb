// Unlabelling the namespace restores plaintext and relabelling restores the mesh, with no restart of a pod and no
// failed request under load, over kept and over new connections. Control: the capture tells the two apart.
import { require, type LoadReport } from './bench.ts';
import { expectPlain, openLab, SERVER_URL, setEnrolled, type Lab } from './lab.ts';
import type { Statement } from './statement.ts';

const identityOf = ({ client, server }: Lab): string =>
  [client, server]
    .map(({ metadata, status }) => {
      const restarts = status?.containerStatuses?.[0]?.restartCount ?? 0;
      return `${metadata?.uid ?? ''}:${restarts}`;
    })
    .join();

function failures(reports: readonly LoadReport[]): string {
  return reports.flatMap((report) => report.failures.map(({ error }) => error)).join('; ');
}

export const joinLeave: Statement = {
  name: 'joining and leaving: no restart, no failed request under load',
  async verify(bench) {
    const lab = await openLab(bench);
    await setEnrolled(bench, true);
    await expectPlain(bench, lab, false);
    const loads = [
      bench.startLoad(lab.client, ['--rate', '50', '--no-retry', `${SERVER_URL}/get`]),
      bench.startLoad(lab.client, ['--rate', '30', '--close', '--no-retry', `${SERVER_URL}/get`]),
    ];
    await bench.sleep(1000);
    await setEnrolled(bench, false);
    await expectPlain(bench, lab, true);
    await bench.sleep(1000);
    await setEnrolled(bench, true);
    await expectPlain(bench, lab, false);
    await bench.sleep(1000);
    const reports = await Promise.all(loads.map((load) => load.stop()));
    const sent = reports.reduce((total, { sent: each }) => total + each, 0);
    const failed = reports.reduce((total, { failed: each }) => total + each, 0);
    require(failed === 0, `${failed} of ${sent} requests failed: ${failures(reports)}`);
    require(reports.every(({ ok }) => ok > 50), 'the load did not run');
    const after = await openLab(bench);
    require(identityOf(lab) === identityOf(after), 'a pod was restarted');
    return `left and joined again, ${sent} requests, none failed, no pod restarted`;
  },
};
