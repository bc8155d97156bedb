// Kubelet probes reach enrolled pods, also where plaintext is refused. Control: the pods have probes and are
// enrolled, and plaintext from elsewhere is indeed refused there (see strict.ts).
import { isReady } from '../cluster-api.ts';
import { require } from './bench.ts';
import type { Statement } from './statement.ts';

const REDIRECTION = 'ambient.istio.io/redirection';

export const probes: Statement = {
  name: 'probes: the kubelet reaches enrolled pods',
  async verify({ api, sleep }) {
    // Longer than a readiness period, so that each pod was probed while enrolled.
    await sleep(2500);
    const pods = [...(await api.pods('bookinfo')), ...(await api.pods('strict'))];
    const enrolled = pods.filter(
      ({ metadata }) => metadata?.annotations?.[REDIRECTION] === 'enabled',
    );
    require(enrolled.length >= 7, `only ${enrolled.length} pods are enrolled`);
    const bad = enrolled.filter((pod) => !isReady(pod));
    require(bad.length ===
      0, `not ready: ${bad.map(({ metadata }) => metadata?.name ?? '').join()}`);
    const restarts = enrolled.filter(({ status }) =>
      status?.containerStatuses?.some(({ restartCount }) => restartCount > 0),
    );
    require(restarts.length === 0, 'a liveness probe restarted a pod');
    return `${enrolled.length} enrolled pods are ready`;
  },
};
