// 90/10 holds within statistical error. Control: without the VirtualService the three versions share the requests.
import { KINDS } from '../../common/kube/resource.ts';
import { require, type Bench, type LoadReport } from './bench.ts';
import { sampleObject, without } from './policies.ts';
import type { Statement } from './statement.ts';

const COUNT = 1000;
const SHARE = 0.9;
/** Five standard deviations: one false alarm in 1.7 million runs. */
const SIGMAS = 5;

async function askReviews(bench: Bench, count: number): Promise<LoadReport> {
  const curl = await bench.pod('bookinfo', 'curl');
  const match = ['--match', '"version": "(v[0-9])"'];
  return bench.load(curl, [
    '--fast',
    '--count',
    String(count),
    ...match,
    'http://reviews:9080/reviews/0',
  ]);
}

const describe = ({ matches }: LoadReport): string =>
  Object.entries(matches)
    .toSorted()
    .map(([version, count]) => `${version} ${count}`)
    .join(', ');

export const split: Statement = {
  name: 'traffic split: 90/10 within statistical error',
  async verify(bench) {
    const route = sampleObject('bookinfo/routes.yaml', 'VirtualService', 'reviews');
    await without(bench, KINDS.virtualServices, route, () =>
      bench.until('control: all three versions without the route', async () => {
        const { matches } = await askReviews(bench, 90);
        const counts = ['v1', 'v2', 'v3'].map((version) => matches[version] ?? 0);
        return counts.every((count) => count >= 10) ? true : undefined;
      }),
    );
    await bench.until('the route again', async () => {
      const { matches } = await askReviews(bench, 60);
      return (matches['v3'] ?? 0) === 0 ? true : undefined;
    });
    const report = await askReviews(bench, COUNT);
    require(report.failed === 0, `${report.failed} requests failed`);
    const allowed = SIGMAS * Math.sqrt(COUNT * SHARE * (1 - SHARE));
    const difference = Math.abs((report.matches['v1'] ?? 0) - COUNT * SHARE);
    require(difference <= allowed, `of ${COUNT}: ${describe(report)}`);
    require((report.matches['v3'] ?? 0) === 0, 'v3 was asked, which has no weight');
    return `of ${COUNT} requests: ${describe(report)}`;
  },
};
