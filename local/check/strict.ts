// STRICT mutual TLS refuses a pod outside the mesh. Control: a pod inside is served, and without the
// PeerAuthentication the pod outside is too.
import { KINDS } from '../../common/kube/resource.ts';
import { require } from './bench.ts';
import { sampleObject, without } from './policies.ts';
import type { Statement } from './statement.ts';

const URL = 'http://httpbin.strict:8000/get';

export const strict: Statement = {
  name: 'STRICT mutual TLS: a pod outside the mesh is refused',
  async verify(bench) {
    const policy = sampleObject('strict/app.yaml', 'PeerAuthentication', 'default');
    const inside = await bench.pod('strict', 'inside');
    const outside = await bench.pod('strict', 'outside');
    await without(bench, KINDS.peerAuthentications, policy, () =>
      bench.until('control: plaintext is served without the policy', async () =>
        (await bench.get(outside, URL)).status === 200 ? true : undefined,
      ),
    );
    await bench.until('a refusal of plaintext', async () =>
      (await bench.get(outside, URL)).status === 0 ? true : undefined,
    );
    require((await bench.get(inside, URL)).status === 200, 'the pod inside is refused as well');
    return 'the pod outside gets no answer, the pod inside gets 200';
  },
};
