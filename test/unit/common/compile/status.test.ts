// Verdicts as status conditions.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import { buildStatus } from '../../../../common/compile/status.ts';
import type { CompileInput } from '../../../../common/compile/types.ts';
import { makeConfig, meshWithWaypoint } from '../../../support/kube-objects.ts';

function conditionOf(kind: string, extra: Partial<CompileInput>, name?: string): string {
  const input = meshWithWaypoint(extra);
  const update = buildStatus(input, compile(input)).find(
    (entry) => entry.kind === kind && (name === undefined || entry.name === name),
  );
  const [condition] = update?.conditions ?? [];
  return [condition?.type, condition?.status, condition?.reason].join(' ');
}

const route = [{ destination: { host: 'reviews' } }];
const policy = (spec: object): Partial<CompileInput> => ({
  authorizationPolicies: [makeConfig('p', spec)],
});
const virtual = (spec: object): Partial<CompileInput> => ({
  virtualServices: [makeConfig('v', { hosts: ['reviews'], http: [{ route }], ...spec })],
});
const target = (name: string): object => ({ kind: 'Service', name });
const method = [{ to: [{ operation: { methods: ['GET'] } }] }];

describe('conditions', () => {
  const rows: readonly (readonly [string, string, Partial<CompileInput>, string])[] = [
    ['a bound service', 'Service', {}, 'istio.io/WaypointBound True WaypointAccepted'],
    [
      'a service whose waypoint is missing',
      'Service',
      { gateways: [] },
      'istio.io/WaypointBound False WaypointIsNotReady',
    ],
    [
      'an L4 policy',
      'AuthorizationPolicy',
      policy({ rules: [{}] }),
      'ZtunnelAccepted True Accepted',
    ],
    [
      'an L7 rule without targetRefs',
      'AuthorizationPolicy',
      policy({ rules: method }),
      'ZtunnelAccepted False UnsupportedValue',
    ],
    [
      'an L7 policy',
      'AuthorizationPolicy',
      policy({ targetRefs: [target('reviews')], rules: method }),
      'WaypointAccepted True Accepted',
    ],
    [
      'a policy one of whose targets is missing',
      'AuthorizationPolicy',
      policy({ targetRefs: [target('reviews'), target('x')], rules: method }),
      'WaypointAccepted True PartiallyInvalid',
    ],
    [
      'a policy whose target is missing',
      'AuthorizationPolicy',
      policy({ targetRefs: [target('x')], rules: method }),
      'WaypointAccepted False TargetNotFound',
    ],
    ['a VirtualService', 'VirtualService', virtual({}), 'ambient-mesh.io/Accepted True Accepted'],
    [
      'a VirtualService with an unknown field',
      'VirtualService',
      virtual({ colour: 1 }),
      'ambient-mesh.io/Accepted True PartiallyAccepted',
    ],
    [
      'a VirtualService without effect',
      'VirtualService',
      virtual({ hosts: ['x'] }),
      'ambient-mesh.io/Accepted False HostNotFound',
    ],
    [
      'a malformed VirtualService',
      'VirtualService',
      virtual({ http: 1 }),
      'ambient-mesh.io/Accepted False Invalid',
    ],
  ];
  for (const [name, kind, extra, expected] of rows) {
    it(`${name}: ${expected}`, () => assert.equal(conditionOf(kind, extra), expected));
  }

  it('a service that says nothing has none', () => {
    const input = meshWithWaypoint({ namespaces: [{ metadata: { name: 'app' } }] });
    assert.deepEqual(buildStatus(input, compile(input)), []);
  });

  it('carry the generation they were made from', () => {
    const virtualServices = [
      makeConfig('v', { hosts: ['reviews'], http: [{ route }] }, { generation: 7 }),
    ];
    const input = meshWithWaypoint({ virtualServices });
    const update = buildStatus(input, compile(input)).find(({ kind }) => kind === 'VirtualService');
    assert.equal(update?.conditions[0]?.observedGeneration, 7);
  });
});
