// The L7 policy on the waypoint answers 403 `RBAC: access denied` by path. Control: without it the path answers 200,
// and with it other paths still do.
import { KINDS } from '../../common/kube/resource.ts';
import { require } from './bench.ts';
import { sampleObject, without } from './policies.ts';
import type { Statement } from './statement.ts';

const ADMIN = 'http://reviews:9080/admin';

export const l7Deny: Statement = {
  name: 'L7 policy: 403 "RBAC: access denied" by path',
  async verify(bench) {
    const policy = sampleObject('bookinfo/policies.yaml', 'AuthorizationPolicy', 'deny-admin');
    const curl = await bench.pod('bookinfo', 'curl');
    await without(bench, KINDS.authorizationPolicies, policy, () =>
      bench.until('control: an answer without the policy', async () =>
        (await bench.get(curl, ADMIN)).status === 200 ? true : undefined,
      ),
    );
    const denied = await bench.until('403 with the policy', async () => {
      const answer = await bench.get(curl, ADMIN);
      return answer.status === 403 ? answer : undefined;
    });
    require(denied.body === 'RBAC: access denied', `the body is "${denied.body.slice(0, 80)}"`);
    const other = await bench.get(curl, 'http://reviews:9080/reviews/0');
    require(other.status === 200, `another path answers ${other.status}`);
    return 'GET /admin is 403, other paths are served';
  },
};
