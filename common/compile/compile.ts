// Compiles Kubernetes, Istio and Gateway API objects to what node proxies and waypoints execute. Pure and
// deterministic: the same objects in any order give the same output.
import { create } from '@bufbuild/protobuf';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { Authorization } from '../policy/gen/authorization_pb.ts';
import { DestinationRuleSchema } from '../resources/gen/destination_rule_pb.ts';
import { HTTPRouteSchema } from '../resources/gen/gateway_api_pb.ts';
import {
  PeerAuthenticationSchema,
  type AuthorizationPolicy,
} from '../resources/gen/security_pb.ts';
import { VirtualServiceSchema } from '../resources/gen/virtual_service_pb.ts';
import { validateDestinationRule } from '../resources/validate-destination-rule.ts';
import { validateHttpRoute } from '../resources/validate-http-route.ts';
import { validateVirtualService } from '../resources/validate-virtual-service.ts';
import { validatePeerAuthentication } from '../resources/validate-peer-authentication.ts';
import { readPolicies } from './authorization-policies.ts';
import {
  byAge,
  compareText,
  readResource,
  type Resource,
  type Validator,
  type ResourceMeta,
} from '../resources/resource.ts';
import {
  AddressSchema,
  type Address,
  type Service,
  type Workload,
} from '../workload/gen/workload_pb.ts';
import { findEndpoints, type Endpoints } from './endpoints.ts';
import { buildL4Policies, type SelectorPolicy } from './l4-authorization.ts';
import { buildModel, selects, type MeshModel } from './mesh-model.ts';
import { l7PercentOf, readL7Rates } from './l7-sight.ts';
import { NodeLocalRule } from './node-local.ts';
import { buildPeerPolicies } from './peer-authentication.ts';
import { attachServices, buildServices } from './services.ts';
import type {
  CompileInput,
  CompileOutput,
  ConfigObject,
  L7Rates,
  WaypointConfig,
} from './types.ts';
import { DestinationRules } from './waypoint/destination-rules.ts';
import { reportHttpRoutes } from './waypoint/http-route-report.ts';
import { buildL7Policies } from './waypoint/l7-authorization.ts';
import { VirtualServices } from './waypoint/virtual-services.ts';
import { buildWaypoints } from './waypoint/waypoint-config.ts';
import type { Attachment } from './waypoint-binding.ts';
import { buildWorkloads } from './workloads.ts';

/**
 * Compiles everything; a malformed object yields a verdict and never removes another. `last` is of the output before: what a
 * namespace keeps whose labels are wrong now.
 */
export function compile(input: CompileInput, last?: { readonly l7Rates: L7Rates }): CompileOutput {
  const model = buildModel(input);
  const endpoints = findEndpoints(model, input.endpointSlices ?? []);
  const policies = readPolicies(model, input.authorizationPolicies ?? []);
  const peers = buildPeerPolicies(
    model,
    readAll(model, 'PeerAuthentication', input.peerAuthentications, [
      PeerAuthenticationSchema,
      validatePeerAuthentication,
    ]),
  );
  const l4 = buildL4Policies(model, policies);
  const nodeLocal = new NodeLocalRule(model, input.networkPolicies ?? []);
  const l7Rates = readL7Rates(model, last?.l7Rates);
  const { workloads, bindings } = buildWorkloads(model, endpoints, {
    policiesOf: (pod) =>
      [...selectorPolicies(l4.selectors, pod), ...peers.policiesOf(pod)].sort(compareText),
    allowsNodeLocal: (pod) => nodeLocal.allows(pod),
    l7PercentOf: (pod) => l7PercentOf(l7Rates, pod),
  });
  const attachments = attachServices(model);
  const services = buildServices(model, attachments);
  const waypoints = compileWaypoints(model, input, { policies, attachments, endpoints });
  const serviceBindings = [...attachments.values()].flatMap(({ binding }) => binding ?? []);
  return {
    addresses: addressMap(services, workloads),
    authorizations: authorizationMap([...l4.authorizations, ...peers.authorizations]),
    waypoints,
    l7Rates,
    verdicts: model.log.list(),
    bindings: [...serviceBindings, ...bindings],
  };
}

interface Compiled {
  readonly policies: readonly Resource<AuthorizationPolicy>[];
  readonly attachments: ReadonlyMap<string, Attachment>;
  readonly endpoints: Endpoints;
}

function compileWaypoints(
  model: MeshModel,
  input: CompileInput,
  { policies, attachments, endpoints }: Compiled,
): Map<string, WaypointConfig> {
  const virtualServices = new VirtualServices(
    model,
    readAll(model, 'VirtualService', input.virtualServices, [
      VirtualServiceSchema,
      validateVirtualService,
    ]),
  );
  const rules = new DestinationRules(
    model,
    readAll(model, 'DestinationRule', input.destinationRules, [
      DestinationRuleSchema,
      validateDestinationRule,
    ]),
  );
  const httpRoutes = readAll(model, 'HTTPRoute', input.httpRoutes, [
    HTTPRouteSchema,
    validateHttpRoute,
  ]);
  const waypoints = buildWaypoints({
    model,
    attachments,
    endpoints,
    rules,
    virtualServices,
    httpRoutes,
    policies: buildL7Policies(model, policies, attachments),
  });
  virtualServices.report(attachments);
  rules.report(attachments);
  reportHttpRoutes(model, httpRoutes, attachments);
  return waypoints;
}

function readAll<Desc extends DescMessage>(
  model: MeshModel,
  kind: string,
  objects: readonly ConfigObject[] | undefined,
  [schema, validate]: readonly [Desc, Validator<MessageShape<Desc>>?],
): Resource<MessageShape<Desc>>[] {
  const resources: Resource<MessageShape<Desc>>[] = [];
  for (const object of objects ?? []) {
    model.log.guard(kind, object, () => {
      const resource = readResource(kind, schema, object, validate);
      if (model.log.admit(resource)) resources.push(resource);
    });
  }
  return resources.sort(byAge);
}

function selectorPolicies(policies: readonly SelectorPolicy[], pod: ResourceMeta): string[] {
  return policies
    .filter((policy) => policy.isMeshWide || policy.namespace === pod.namespace)
    .filter((policy) => selects(policy.selector, pod.labels))
    .map((policy) => policy.key);
}

function addressMap(
  services: readonly Service[],
  workloads: readonly Workload[],
): Map<string, Address> {
  const entries = [
    ...services.map((service): [string, Address] => [
      `${service.namespace}/${service.hostname}`,
      create(AddressSchema, { type: { case: 'service', value: service } }),
    ]),
    ...workloads.map((workload): [string, Address] => [
      workload.uid,
      create(AddressSchema, { type: { case: 'workload', value: workload } }),
    ]),
  ];
  return sortedMap(entries);
}

function authorizationMap(list: readonly Authorization[]): Map<string, Authorization> {
  return sortedMap(list.map((entry) => [`${entry.namespace}/${entry.name}`, entry]));
}

function sortedMap<T>(entries: readonly [string, T][]): Map<string, T> {
  return new Map([...entries].sort(([a], [b]) => compareText(a, b)));
}
