// Objects to typed resources: every finding has the object's path, and nothing makes the reader throw.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DestinationRuleSchema } from '../../../../common/resources/gen/destination_rule_pb.ts';
import { HTTPRouteSchema } from '../../../../common/resources/gen/gateway_api_pb.ts';
import {
  AuthorizationPolicySchema,
  PeerAuthenticationSchema,
} from '../../../../common/resources/gen/security_pb.ts';
import { ServiceEntrySchema } from '../../../../common/resources/gen/service_entry_pb.ts';
import { VirtualServiceSchema } from '../../../../common/resources/gen/virtual_service_pb.ts';
import { readResource } from '../../../../common/resources/resource.ts';
import { validateAuthorizationPolicy } from '../../../../common/resources/validate-authorization-policy.ts';
import { validateDestinationRule } from '../../../../common/resources/validate-destination-rule.ts';
import { validateHttpRoute } from '../../../../common/resources/validate-http-route.ts';
import { validatePeerAuthentication } from '../../../../common/resources/validate-peer-authentication.ts';
import { validateServiceEntry } from '../../../../common/resources/validate-service-entry.ts';
import { validateVirtualService } from '../../../../common/resources/validate-virtual-service.ts';

const READERS = {
  VirtualService: (spec: unknown) =>
    readResource('VirtualService', VirtualServiceSchema, { spec }, validateVirtualService),
  DestinationRule: (spec: unknown) =>
    readResource('DestinationRule', DestinationRuleSchema, { spec }, validateDestinationRule),
  AuthorizationPolicy: (spec: unknown) =>
    readResource(
      'AuthorizationPolicy',
      AuthorizationPolicySchema,
      { spec },
      validateAuthorizationPolicy,
    ),
  PeerAuthentication: (spec: unknown) =>
    readResource(
      'PeerAuthentication',
      PeerAuthenticationSchema,
      { spec },
      validatePeerAuthentication,
    ),
  ServiceEntry: (spec: unknown) =>
    readResource('ServiceEntry', ServiceEntrySchema, { spec }, validateServiceEntry),
  HTTPRoute: (spec: unknown) =>
    readResource('HTTPRoute', HTTPRouteSchema, { spec }, validateHttpRoute),
};
type Kind = keyof typeof READERS;

const to = (host: string, extra: object = {}): object => ({ destination: { host, ...extra } });
const vs = (route: object): object => ({ hosts: ['a'], http: [route] });
const rule = (extra: object): object => ({ rules: [extra] });
const routed = (extra: object): object => vs({ route: [to('a')], ...extra });

describe('accepted specs', () => {
  const rows: readonly (readonly [Kind, string, unknown])[] = [
    ['VirtualService', 'a plain route', routed({})],
    ['VirtualService', 'go durations', routed({ timeout: '1m30s' })],
    ['VirtualService', 'an empty header match', routed({ match: [{ headers: { a: {} } }] })],
    ['VirtualService', 'a delegate target', { http: [{ route: [to('a')] }] }],
    ['DestinationRule', 'a host alone', { host: 'a' }],
    ['AuthorizationPolicy', 'an empty spec', {}],
    ['AuthorizationPolicy', 'a rule for everything', { rules: [{}] }],
    ['PeerAuthentication', 'a mode', { mtls: { mode: 'STRICT' } }],
    ['HTTPRoute', 'a parent', { parentRefs: [{ group: '', kind: 'Service', name: 'a' }] }],
  ];
  for (const [kind, name, spec] of rows) {
    it(`${kind}: ${name}`, () => assert.deepEqual(READERS[kind](spec).problems, []));
  }
});

describe('findings', () => {
  const rows: readonly (readonly [Kind, unknown, string, string])[] = [
    // Types and names.
    ['VirtualService', { ...routed({}), hots: 1 }, 'spec.hots', 'UnknownField'],
    ['VirtualService', routed({ timeot: '1s' }), 'spec.http[0].timeot', 'UnknownField'],
    ['VirtualService', routed({ corsPolicy: {} }), 'spec.http[0].corsPolicy', 'UnsupportedField'],
    ['VirtualService', routed({ timeout: '1 day' }), 'spec.http[0].timeout', 'Invalid'],
    ['VirtualService', routed({ timeout: '0s' }), 'spec.http[0].timeout', 'Invalid'],
    ['VirtualService', { hosts: 'a', http: [] }, 'spec.hosts', 'Invalid'],
    ['VirtualService', { hosts: ['a'], http: [null] }, 'spec.http[0]', 'Invalid'],
    ['VirtualService', 'text', 'spec', 'Invalid'],
    // VirtualService.
    ['VirtualService', { hosts: ['a'] }, 'spec', 'Invalid'],
    ['VirtualService', { ...routed({}), hosts: ['a', 'a'] }, 'spec.hosts[1]', 'Invalid'],
    ['VirtualService', { ...routed({}), hosts: ['*'] }, 'spec.hosts[0]', 'Invalid'],
    ['VirtualService', vs({}), 'spec.http[0]', 'Invalid'],
    ['VirtualService', routed({ redirect: { uri: '/' } }), 'spec.http[0]', 'Invalid'],
    [
      'VirtualService',
      vs({ route: [{ ...to('a'), weight: -1 }] }),
      'spec.http[0].route[0].weight',
      'Invalid',
    ],
    ['VirtualService', vs({ route: [to('a'), to('b')] }), 'spec.http[0].route', 'Invalid'],
    [
      'VirtualService',
      routed({ match: [{ uri: { regex: '(?=x)' } }] }),
      'spec.http[0].match[0].uri.regex',
      'Invalid',
    ],
    [
      'VirtualService',
      routed({ match: [{ uri: { exact: '/a', prefix: '/b' } }] }),
      'spec.http[0].match[0].uri.prefix',
      'Invalid',
    ],
    [
      'VirtualService',
      routed({ match: [{ uri: { prefix: '' } }] }),
      'spec.http[0].match[0].uri.prefix',
      'Invalid',
    ],
    ['VirtualService', routed({ rewrite: {} }), 'spec.http[0].rewrite', 'Invalid'],
    [
      'VirtualService',
      routed({ retries: { attempts: 1, retryOn: 'nonsense' } }),
      'spec.http[0].retries.retryOn',
      'Invalid',
    ],
    ['VirtualService', routed({ fault: { abort: {} } }), 'spec.http[0].fault.abort', 'Invalid'],
    [
      'VirtualService',
      routed({ fault: { abort: { httpStatus: 99 } } }),
      'spec.http[0].fault.abort.httpStatus',
      'Invalid',
    ],
    [
      'VirtualService',
      routed({ headers: { request: { set: { 'a b': 'x' } } } }),
      'spec.http[0].headers.request.set.a b',
      'Invalid',
    ],
    [
      'VirtualService',
      routed({ headers: { response: { add: { a: 'x\r\ny: z' } } } }),
      'spec.http[0].headers.response.add.a',
      'Invalid',
    ],
    [
      'VirtualService',
      vs({ directResponse: { status: 700 } }),
      'spec.http[0].directResponse.status',
      'Invalid',
    ],
    // DestinationRule.
    ['DestinationRule', {}, 'spec.host', 'Invalid'],
    [
      'DestinationRule',
      { host: 'a', subsets: [{ name: 'v1' }, { name: 'v1' }] },
      'spec.subsets[1].name',
      'Invalid',
    ],
    [
      'DestinationRule',
      { host: 'a', trafficPolicy: { loadBalancer: { simple: 'FASTEST' } } },
      'spec.trafficPolicy.loadBalancer.simple',
      'Invalid',
    ],
    [
      'DestinationRule',
      { host: 'a', trafficPolicy: { loadBalancer: { consistentHash: {} } } },
      'spec.trafficPolicy.loadBalancer.consistentHash',
      'UnsupportedField',
    ],
    [
      'DestinationRule',
      { host: 'a', trafficPolicy: { outlierDetection: { maxEjectionPercent: 101 } } },
      'spec.trafficPolicy.outlierDetection.maxEjectionPercent',
      'Invalid',
    ],
    // AuthorizationPolicy.
    ['AuthorizationPolicy', { action: 'DENY' }, 'spec.rules', 'Invalid'],
    ['AuthorizationPolicy', { action: 'PERMIT' }, 'spec.action', 'Invalid'],
    [
      'AuthorizationPolicy',
      { selector: {}, targetRef: { kind: 'Service', name: 'a' } },
      'spec',
      'Invalid',
    ],
    [
      'AuthorizationPolicy',
      { targetRefs: [{ kind: 'Deployment', name: 'a' }] },
      'spec.targetRefs[0].kind',
      'Invalid',
    ],
    ['AuthorizationPolicy', rule({ from: [{}] }), 'spec.rules[0].from[0].source', 'Invalid'],
    [
      'AuthorizationPolicy',
      rule({ from: [{ source: { ipBlocks: ['10.0.0.0/40'] } }] }),
      'spec.rules[0].from[0].source.ipBlocks[0]',
      'Invalid',
    ],
    [
      'AuthorizationPolicy',
      rule({ to: [{ operation: { ports: ['70000'] } }] }),
      'spec.rules[0].to[0].operation.ports[0]',
      'Invalid',
    ],
    [
      'AuthorizationPolicy',
      rule({ when: [{ key: 'source.colour', values: ['red'] }] }),
      'spec.rules[0].when[0].key',
      'Invalid',
    ],
    // PeerAuthentication, ServiceEntry, HTTPRoute.
    [
      'PeerAuthentication',
      { portLevelMtls: { 80: { mode: 'STRICT' } } },
      'spec.portLevelMtls',
      'Invalid',
    ],
    ['ServiceEntry', { hosts: ['*'], ports: [{ number: 80 }] }, 'spec.hosts[0]', 'Invalid'],
    ['ServiceEntry', { hosts: ['a.b'], ports: [{ number: 0 }] }, 'spec.ports[0].number', 'Invalid'],
    [
      'HTTPRoute',
      { rules: [{ matches: [{ path: { value: 'x' } }] }] },
      'spec.rules[0].matches[0].path.value',
      'Invalid',
    ],
    [
      'HTTPRoute',
      { rules: [{ sessionPersistence: {} }] },
      'spec.rules[0].sessionPersistence',
      'UnsupportedField',
    ],
  ];
  for (const [kind, spec, path, reason] of rows) {
    it(`${kind} ${path}: ${reason}`, () => {
      const { problems, isInvalid } = READERS[kind](spec);
      const found = problems.find((problem) => problem.path === path && problem.reason === reason);
      assert.ok(found, JSON.stringify(problems));
      assert.ok(found.message.startsWith(path));
      assert.equal(isInvalid, reason === 'Invalid');
    });
  }

  it('suggests the field that was meant', () => {
    const [problem] = READERS.VirtualService(routed({ retris: {} })).problems;
    assert.match(problem?.message ?? '', /did you mean retries/);
  });
});

describe('any object', () => {
  // Half of the values are arbitrary, half use the schemas' own field names, so that nesting is reached.
  const names = fc.constantFrom(
    ...['hosts', 'http', 'match', 'uri', 'exact', 'regex', 'route', 'destination', 'host', 'rules'],
    ...['from', 'source', 'principals', 'ipBlocks', 'to', 'operation', 'when', 'key', 'values'],
    ...['subsets', 'trafficPolicy', 'parentRefs', 'filters', 'timeout', 'headers', '__proto__'],
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { depthSize: 'medium' },
      fc.anything(),
      fc.string(),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(names, tie('tree'), { maxKeys: 4 }),
    ),
  }));
  for (const [kind, read] of Object.entries(READERS)) {
    it(`${kind}: never throws`, () => {
      fc.assert(
        fc.property(tree, (spec) => void read(spec)),
        { numRuns: 300 },
      );
    });
  }
});
