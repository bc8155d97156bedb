// The access line in both formats: fields, their order and the level, as Istio's ztunnel has them; reason and policy
// are ours, after Istio's fields.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createLoggerRoot } from '../../../../common/telemetry/logger.ts';
import type { LogFormat } from '../../../../common/telemetry/logger.ts';
import { SeriesTable } from '../../../../common/telemetry/series-table.ts';
import { ConnectionRecorder } from '../../../../ztunnel/proxy/connection-result.ts';
import { TRAFFIC_FAMILIES } from '../../../../ztunnel/proxy/traffic-families.ts';
import type { ConnectionOutcome } from '../../../../ztunnel/proxy/connection-result.ts';
import type { ConnectionParties } from '../../../../ztunnel/proxy/traffic-labels.ts';
import { makeService, makeWorkload } from '../../../support/mesh-builders.ts';

const MUTUAL: ConnectionParties = {
  direction: 'outbound',
  source: makeWorkload('client', '10.0.0.1'),
  sourceBaggage: undefined,
  sourceIdentity: 'spiffe://cluster.local/ns/default/sa/client',
  destination: makeWorkload('server', '10.0.0.2'),
  destinationIdentity: 'spiffe://cluster.local/ns/default/sa/server',
  service: makeService('web', '10.96.0.1'),
};
const PLAIN: ConnectionParties = {
  direction: 'inbound',
  source: undefined,
  sourceBaggage: undefined,
  sourceIdentity: undefined,
  destination: makeWorkload('server', '10.0.0.2'),
  destinationIdentity: undefined,
  service: undefined,
};
const ADDRESSES = { src: '10.0.0.1:5', dst: '10.0.0.2:15008', hboneAddr: '10.0.0.2:8080' };
const NOW_MS = Date.UTC(2026, 10, 23, 2, 41, 7, 45);
const TIME = '2026-11-23T02:41:07.045000Z';

function recorder(
  format: LogFormat,
  level = 'info',
): { recorder: ConnectionRecorder; lines: () => string[] } {
  let text = '';
  const sink = {
    write: (line: string) => {
      text += line;
    },
    flush: () => undefined,
  };
  const root = createLoggerRoot({ level, format, sink, now: () => NOW_MS });
  const table = new SeriesTable(TRAFFIC_FAMILIES, () => undefined);
  return {
    recorder: new ConnectionRecorder(table, root.scope('access'), () => NOW_MS),
    lines: () => text.split('\n').slice(0, -1),
  };
}

const HEAD =
  'src.addr=10.0.0.1:5 src.workload="client" src.namespace="default" src.identity="spiffe://cluster.local/ns/default/sa/client" src.cluster="Kubernetes" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.service="web.default.svc.cluster.local" dst.workload="server" dst.namespace="default" dst.identity="spiffe://cluster.local/ns/default/sa/server" dst.cluster="Kubernetes" direction="outbound"';
const PLAIN_HEAD =
  'src.addr=10.0.0.9:1 dst.addr=10.0.0.2:8080 dst.workload="server" dst.namespace="default" dst.cluster="Kubernetes" direction="inbound"';

const CASES: readonly {
  readonly name: string;
  readonly parties: ConnectionParties;
  readonly outcome: ConnectionOutcome;
  readonly level: string;
  readonly text: string;
}[] = [
  {
    name: 'success over a tunnel, seen from the source: sent is what the client sent',
    parties: MUTUAL,
    outcome: {},
    level: 'info',
    text: `${HEAD} bytes_sent=10 bytes_recv=300 duration="13ms"`,
  },
  {
    name: 'plaintext inbound: unknown fields are left out, sent is what the server sent',
    parties: PLAIN,
    outcome: {},
    level: 'info',
    text: `${PLAIN_HEAD} bytes_sent=300 bytes_recv=10 duration="13ms"`,
  },
  {
    name: 'a policy denial',
    parties: PLAIN,
    outcome: {
      reason: 'policy_denied',
      detail: 'explicitly denied by: default/deny',
      policy: 'default/deny',
    },
    level: 'error',
    text: `${PLAIN_HEAD} bytes_sent=300 bytes_recv=10 duration="13ms" error="explicitly denied by: default/deny" reason="policy_denied" response_flags="DENY" policy="default/deny"`,
  },
  {
    name: 'an application that resets is no error',
    parties: PLAIN,
    outcome: { reason: 'upstream_reset', detail: 'reset by peer' },
    level: 'info',
    text: `${PLAIN_HEAD} bytes_sent=300 bytes_recv=10 duration="13ms" error="reset by peer" reason="upstream_reset" response_flags="-"`,
  },
  {
    name: 'a connection that our drain cut is one',
    parties: PLAIN,
    outcome: { reason: 'drained', detail: 'the proxy is shutting down' },
    level: 'error',
    text: `${PLAIN_HEAD} bytes_sent=300 bytes_recv=10 duration="13ms" error="the proxy is shutting down" reason="drained" response_flags="-"`,
  },
];

/** `k="v" n=1` as an object, for comparison with the JSON form. */
function parseFields(text: string): Record<string, unknown> {
  const pairs = [...text.matchAll(/([\w.]+)=("(?:[^"\\]|\\.)*"|\S+)/g)].map(
    ([, key = '', value = '']) => [
      key,
      value.startsWith('"') || /^\d+$/.test(value) ? (JSON.parse(value) as unknown) : value,
    ],
  );
  return Object.fromEntries(pairs) as Record<string, unknown>;
}

describe('access log', () => {
  for (const { name, parties, outcome, level, text } of CASES) {
    const addresses = parties === MUTUAL ? ADDRESSES : { src: '10.0.0.9:1', dst: '10.0.0.2:8080' };
    const write = (format: LogFormat): string[] => {
      const { recorder: made, lines } = recorder(format);
      const connection = made.open(parties, addresses, NOW_MS - 13);
      connection.addForward(10);
      connection.addBackward(300);
      connection.finish(outcome);
      return lines();
    };
    it(`as text: ${name}`, () => {
      assert.deepEqual(write('plain'), [`${TIME}\t${level}\taccess\tconnection complete\t${text}`]);
    });
    it(`as JSON: ${name}`, () => {
      const [line = ''] = write('json');
      assert.deepEqual(JSON.parse(line), {
        level,
        time: TIME,
        scope: 'access',
        message: 'connection complete',
        ...parseFields(text),
      });
    });
  }

  it('ends with the trace id of the tunnel, whatever came before', () => {
    const addresses = { ...ADDRESSES, traceparent: `00-${'0Af7'.repeat(8)}-b7ad6b7169203331-00` };
    const { recorder: made, lines } = recorder('plain', 'access=debug');
    made.open(MUTUAL, addresses, NOW_MS).finish({});
    made.open(MUTUAL, addresses, NOW_MS).finish({ reason: 'drained', detail: 'x' });
    made.refuse(MUTUAL, addresses, 'recursive_call', 'to itself');
    assert.equal(lines().length, 5);
    for (const line of lines()) assert.match(line, / trace_id="(0af7){8}"$/);
  });

  it('says at debug that a connection was opened', () => {
    const { recorder: made, lines } = recorder('plain', 'access=debug');
    made.open(MUTUAL, ADDRESSES, NOW_MS);
    assert.deepEqual(lines(), [`${TIME}\tdebug\taccess\tconnection opened\t${HEAD}`]);
  });

  it('warns of connections refused before they were opened', () => {
    const { recorder: made, lines } = recorder('plain');
    made.refuse(PLAIN, { src: '10.0.0.9:1', dst: '10.0.0.2:8080' }, 'recursive_call', 'to itself');
    assert.deepEqual(lines(), [
      `${TIME}\twarn\taccess\tconnection failed\t${PLAIN_HEAD} error="to itself" reason="recursive_call"`,
    ]);
  });

  it('writes nothing when it is off', () => {
    const { recorder: made, lines } = recorder('plain', 'access=off');
    made.open(MUTUAL, ADDRESSES, NOW_MS).finish({ reason: 'io_error', detail: 'x' });
    made.refuse(PLAIN, ADDRESSES, 'recursive_call', 'to itself');
    assert.deepEqual(lines(), []);
  });
});
