// Which waypoint a service or pod uses, and what is said when it cannot.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { CompileInput, StringMap, WaypointBinding } from '../../../../common/compile/types.ts';
import { MESH, makePod, makeService, makeWaypoint } from '../../../support/kube-objects.ts';

const USE = 'istio.io/use-waypoint';
const FROM = 'istio.io/use-waypoint-namespace';

interface Row {
  readonly name: string;
  readonly namespace?: StringMap;
  readonly service?: StringMap;
  readonly input?: Partial<CompileInput>;
  /** The waypoint node proxies are told, or undefined. */
  readonly waypoint: string | undefined;
  readonly reason?: WaypointBinding['reason'];
}

function outcome(row: Row): { waypoint: string | undefined; reason: string | undefined } {
  const output = compile({
    mesh: MESH,
    namespaces: [{ metadata: { name: 'app', labels: { team: 'a', ...row.namespace } } }],
    gateways: [makeWaypoint()],
    services: [makeService('web', { labels: row.service ?? {} })],
    ...row.input,
  });
  const type = output.addresses.get('app/web.app.svc.cluster.local')?.type;
  const destination = type?.case === 'service' ? type.value.waypoint?.destination : undefined;
  const waypoint = destination?.case === 'hostname' ? destination.value.hostname : undefined;
  return { waypoint, reason: output.bindings[0]?.reason };
}

const own = 'waypoint.app.svc.cluster.local';
const shared = 'waypoint.infra.svc.cluster.local';
const infra = (listener: object): Partial<CompileInput> => ({
  gateways: [makeWaypoint('waypoint', { namespace: 'infra', listener })],
});
const toInfra = { [USE]: 'waypoint', [FROM]: 'infra' };
const from = (namespaces: object): object => ({ allowedRoutes: { namespaces } });

describe('the waypoint of a service', () => {
  const rows: readonly Row[] = [
    { name: 'is none without a label', waypoint: undefined },
    {
      name: 'is that of its label',
      service: { [USE]: 'waypoint' },
      waypoint: own,
      reason: 'WaypointAccepted',
    },
    {
      name: 'is inherited from the namespace',
      namespace: { [USE]: 'waypoint' },
      waypoint: own,
      reason: 'WaypointAccepted',
    },
    {
      name: 'is none when the service says so',
      namespace: { [USE]: 'waypoint' },
      service: { [USE]: 'none' },
      waypoint: undefined,
    },
    {
      name: 'does not fall back to the namespace when its own is missing',
      namespace: { [USE]: 'waypoint' },
      service: { [USE]: 'other' },
      waypoint: undefined,
      reason: 'WaypointIsNotReady',
    },
    {
      name: 'is not used before it has an address',
      service: { [USE]: 'waypoint' },
      input: { gateways: [makeWaypoint('waypoint', { isReady: false })] },
      waypoint: undefined,
      reason: 'WaypointIsNotReady',
    },
    {
      name: 'of another namespace is refused by default',
      service: toInfra,
      input: infra({}),
      waypoint: undefined,
      reason: 'AttachmentDenied',
    },
    {
      name: 'of another namespace is used when its listener allows all',
      service: toInfra,
      input: infra(from({ from: 'All' })),
      waypoint: shared,
      reason: 'WaypointAccepted',
    },
    {
      name: 'of another namespace is used when a selector matches',
      namespace: toInfra,
      input: infra(from({ from: 'Selector', selector: { matchLabels: { team: 'a' } } })),
      waypoint: shared,
      reason: 'WaypointAccepted',
    },
    {
      name: 'of another namespace is refused when no selector matches',
      namespace: toInfra,
      input: infra(from({ from: 'Selector', selector: { matchLabels: { team: 'b' } } })),
      waypoint: undefined,
      reason: 'AttachmentDenied',
    },
    {
      name: 'must be for service traffic',
      service: { [USE]: 'waypoint' },
      input: {
        gateways: [makeWaypoint('waypoint', { labels: { 'istio.io/waypoint-for': 'workload' } })],
      },
      waypoint: undefined,
      reason: 'UnsupportedTrafficType',
    },
    {
      name: 'that is inherited and for other traffic is silently none',
      namespace: { [USE]: 'waypoint' },
      input: {
        gateways: [makeWaypoint('waypoint', { labels: { 'istio.io/waypoint-for': 'workload' } })],
      },
      waypoint: undefined,
    },
    {
      name: 'may be of any class',
      service: { [USE]: 'waypoint' },
      input: { gateways: [makeWaypoint('waypoint', { className: 'someone-else' })] },
      waypoint: own,
      reason: 'WaypointAccepted',
    },
    {
      name: 'is never that of a waypoint itself',
      namespace: { [USE]: 'waypoint' },
      service: { 'gateway.istio.io/managed': 'istio.io-mesh-controller' },
      waypoint: undefined,
    },
  ];
  for (const row of rows) {
    it(row.name, () => {
      assert.deepEqual(outcome(row), { waypoint: row.waypoint, reason: row.reason });
    });
  }
});

describe('waypoint config', () => {
  const labelled = { services: [makeService('web', { labels: { [USE]: 'waypoint' } })] };
  const keys = (
    gateways: CompileInput['gateways'],
    extra: Partial<CompileInput> = {},
  ): string[] => [
    ...compile({ mesh: MESH, ...labelled, gateways: gateways ?? [], ...extra }).waypoints.keys(),
  ];

  it('is there before the waypoint is ready, so that it can become ready', () => {
    const gateways = [makeWaypoint('waypoint', { isReady: false })];
    const { waypoints } = compile({ mesh: MESH, ...labelled, gateways });
    assert.deepEqual(
      [...(waypoints.get('app/waypoint')?.serviceRoutes.keys() ?? [])],
      ['app/web.app.svc.cluster.local'],
    );
  });

  it('is made for our classes only', () => {
    assert.deepEqual(keys([makeWaypoint('a', { className: 'ambient-waypoint' })]), ['app/a']);
    assert.deepEqual(keys([makeWaypoint('a', { className: 'someone-else' })]), []);
  });

  it('is not made when another controller owns the class', () => {
    const taken = {
      metadata: { name: 'istio-waypoint' },
      spec: { controllerName: 'example.com/other' },
    };
    assert.deepEqual(keys([makeWaypoint()], { gatewayClasses: [taken] }), []);
  });
});

describe('the waypoint of a pod', () => {
  const bound = (trafficType: string): boolean => {
    const { addresses } = compile({
      mesh: MESH,
      gateways: [makeWaypoint('waypoint', { labels: { 'istio.io/waypoint-for': trafficType } })],
      pods: [makePod('a', { labels: { [USE]: 'waypoint' } })],
    });
    const type = addresses.get('Kubernetes//Pod/app/a')?.type;
    return type?.case === 'workload' && type.value.waypoint !== undefined;
  };

  it('must be for workload traffic', () => {
    assert.deepEqual(['service', 'workload', 'all', 'none'].map(bound), [false, true, true, false]);
  });
});
