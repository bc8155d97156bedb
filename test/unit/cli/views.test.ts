// What `connections` and `why` show, from answers as the node proxies give them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LiveConnection, PodUse } from '../../../common/admin/connections.ts';
import { connectionRows, useRows, type NodeReport } from '../../../cli/commands/connections.ts';
import { describeExplanation, expandDestination } from '../../../cli/commands/why.ts';

const connection: LiveConnection = {
  ...{ pod: 'shop/a', uid: 'u1', src: '10.0.0.1:1', originalDst: '10.96.0.1:80' },
  ...{ direction: 'outbound', protocol: 'HBONE', actualDst: '10.0.0.2:15008', source: 'shop/a' },
  ...{ destination: null, service: null, sourceIdentity: null, destinationIdentity: null },
  ...{ bytesReceived: 10, bytesSent: 2048, ageMs: 61_000 },
};
const pod: PodUse = {
  ...{ uid: 'u1', name: 'a', namespace: 'shop', serviceAccount: 'a', inbound: 1, outbound: 1 },
  ...{
    openedTotal: 9,
    limitedTotal: 0,
    delayedTotal: 0,
    handshakes: 0,
    handshakesTotal: 2,
    tunnels: 0,
    waiting: 0,
  },
  ...{ bytesReceived: 1, bytesSent: 2, cpuMs: 4000, memoryBytes: 2048 },
};
const answer = { now: '2026-11-23T00:00:00Z', isDraining: false, connectionCount: 1, omitted: 0 };
const REPORTS: NodeReport[] = [
  { node: 'n1', report: { ...answer, pods: [pod], connections: [connection] } },
  {
    node: 'n2',
    report: {
      ...answer,
      pods: [{ ...pod, name: 'b', outbound: 5, limitedTotal: 3 }],
      connections: [{ ...connection, pod: 'shop/b', bytesSent: 4096, ageMs: 1000 }],
    },
  },
];

describe('connections', () => {
  it('orders the connections of all nodes, and says what is known of the ends', () => {
    const rows = connectionRows(REPORTS, 'bytes', 10);
    assert.deepEqual(
      rows.map(([name]) => name),
      ['shop/b', 'shop/a'],
    );
    assert.deepEqual(rows[1]?.slice(2), [
      ...['shop/a', '10.0.0.2:15008', '10.96.0.1:80', 'HBONE', '10 B', '2.0 KiB', '61s'],
    ]);
    assert.equal(connectionRows(REPORTS, 'age', 1)[0]?.[0], 'shop/a');
  });

  it('orders pods by their connections, with what they use', () => {
    const [first, second] = useRows(REPORTS, 10);
    assert.deepEqual(first?.slice(0, 7), ['shop/b', 'n2', '1', '5', '9', '3', '2']);
    assert.deepEqual(first.slice(7), ['1 B', '2 B', '4s', '2.0 KiB']);
    assert.deepEqual(second?.slice(0, 6), ['shop/a', 'n1', '1', '1', '9', '0']);
  });
});

describe('why', () => {
  it('takes a bare name as a service of the namespace', () => {
    assert.equal(expandDestination('web:80', 'shop'), 'web.shop.svc.cluster.local:80');
    for (const word of ['web.bank:80', '10.0.0.1:80', 'shop/a:80', '[fd00::1]:80'])
      assert.equal(expandDestination(word, 'shop'), word);
    assert.throws(() => expandDestination('web', 'shop'), /has no port/);
  });

  it('shows verdict, steps, endpoints and policies', () => {
    const text = describeExplanation({
      ...{ src: 'a', dst: 'b', isAllowed: false, reason: 'policy_denied', summary: 'no' },
      steps: [{ step: 'policy', outcome: 'refuse', detail: 'denied' }],
      source: null,
      decision: null,
      retries: [],
      candidates: [
        { workload: 'shop/a', uid: 'u', isEligible: true, isChosen: false, detail: 'far' },
      ],
      policies: [
        {
          ...{ policy: 'shop/p', action: 'DENY', isMatch: true, isDryRun: true },
          ...{ isDeciding: false, detail: 'rule 0', scope: 'NAMESPACE', rule: 0 },
        },
      ],
    });
    assert.match(text, /^REFUSED \(policy_denied\): no\n\nx policy: denied\n/);
    assert.match(text, /shop\/a +could be +far/);
    assert.match(text, /shop\/p +DENY \(dry run\) +yes +- +rule 0$/);
  });
});
