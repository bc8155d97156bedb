// PeerAuthentication for node proxies: STRICT becomes a deny of peers without a principal.
// PERMISSIVE and DISABLE are the same here: tunnelled traffic is always mutual TLS.
import { create } from '@bufbuild/protobuf';
import {
  Action,
  AuthorizationSchema,
  MatchSchema,
  Scope,
  type Authorization,
  type Match,
} from '../policy/gen/authorization_pb.ts';
import { MutualTLS_Mode, type PeerAuthentication } from '../resources/gen/security_pb.ts';
import { byAge, type Resource, type ResourceMeta } from '../resources/resource.ts';
import { selects, type MeshModel } from './mesh-model.ts';

type PeerResource = Resource<PeerAuthentication>;

export interface PeerPolicies {
  readonly authorizations: Authorization[];
  /** The policies a pod lists. */
  readonly policiesOf: (pod: ResourceMeta) => readonly string[];
}

const STATIC_NAME = 'istio_converted_static_strict';
const { UNSET, STRICT, PERMISSIVE } = MutualTLS_Mode;

/** Compiles all PeerAuthentications. */
export function buildPeerPolicies(
  model: MeshModel,
  resources: readonly PeerResource[],
): PeerPolicies {
  const { rootNamespace } = model.mesh;
  const ordered = [...resources].sort(byAge);
  const levels = splitLevels(model, ordered);
  const staticKey = `${rootNamespace}/${STATIC_NAME}`;
  const converted = new Map<PeerResource, Authorization>();
  const isStrict = new Map<PeerResource, boolean>();
  for (const resource of levels.selectors) {
    const parent = namespaceMode(levels, resource.namespace);
    const own = modeOf(resource);
    const top = own === UNSET ? parent : own;
    const policy = convertPorts(resource, top === STRICT);
    if (policy === 'static') isStrict.set(resource, true);
    else if (policy === undefined) isStrict.set(resource, top === STRICT);
    else converted.set(resource, policy);
  }
  const policiesOf = (pod: ResourceMeta): readonly string[] => {
    const own = levels.selectors.find(
      (resource) =>
        resource.namespace === pod.namespace &&
        selects(resource.spec.selector?.matchLabels ?? {}, pod.labels),
    );
    if (own === undefined) {
      return namespaceMode(levels, pod.namespace) === STRICT ? [staticKey] : [];
    }
    const policy = converted.get(own);
    if (policy !== undefined) return [`${policy.namespace}/${policy.name}`];
    return isStrict.get(own) === true ? [staticKey] : [];
  };
  const authorizations = [...converted.values()];
  if (ordered.length > 0) authorizations.unshift(staticStrict(rootNamespace));
  return { authorizations, policiesOf };
}

interface Levels {
  readonly selectors: readonly PeerResource[];
  readonly byNamespace: ReadonlyMap<string, PeerResource>;
  readonly root: PeerResource | undefined;
}

function splitLevels(model: MeshModel, ordered: readonly PeerResource[]): Levels {
  const { rootNamespace } = model.mesh;
  const selectors: PeerResource[] = [];
  const byNamespace = new Map<string, PeerResource>();
  let root: PeerResource | undefined;
  for (const resource of ordered) {
    const hasSelector = Object.keys(resource.spec.selector?.matchLabels ?? {}).length > 0;
    const isRoot = resource.namespace === rootNamespace;
    if (hasSelector && isRoot) {
      const message = `spec.selector: selectors have no effect in the root namespace ${rootNamespace}`;
      model.log.nowhere(resource, 'spec.selector', 'UnsupportedValue', message);
      continue;
    }
    const older = isRoot ? root : byNamespace.get(resource.namespace);
    if (!hasSelector && older !== undefined) {
      const message = `the older ${older.namespace}/${older.name} decides for the namespace`;
      model.log.nowhere(resource, 'spec', 'Shadowed', message);
      continue;
    }
    if (hasSelector) selectors.push(resource);
    else if (isRoot) root = resource;
    else byNamespace.set(resource.namespace, resource);
    const message = 'enforced by node proxies';
    model.log.add(resource, { field: 'spec', enforcedAt: 'node', reason: 'Accepted', message });
  }
  return { selectors, byNamespace, root };
}

function modeOf(resource: PeerResource | undefined): MutualTLS_Mode {
  return resource?.spec.mtls?.mode ?? UNSET;
}

function namespaceMode(levels: Levels, namespace: string): MutualTLS_Mode {
  const own = modeOf(levels.byNamespace.get(namespace));
  if (own !== UNSET) return own;
  const root = modeOf(levels.root);
  return root === UNSET ? PERMISSIVE : root;
}

// 'static' when every port ends up strict; undefined when there is no exception to the top-level mode.
function convertPorts(
  resource: PeerResource,
  isTopStrict: boolean,
): Authorization | 'static' | undefined {
  const ports = Object.entries(resource.spec.portLevelMtls)
    .map(([port, { mode }]) => ({ port: Number(port), mode }))
    .filter(({ mode }) => mode !== UNSET && (mode === STRICT) !== isTopStrict)
    .sort((a, b) => a.port - b.port);
  if (ports.length === 0) return isTopStrict ? 'static' : undefined;
  const rules = isTopStrict
    ? [
        [noPrincipal()],
        ...ports.map(({ port }) => [create(MatchSchema, { notDestinationPorts: [port] })]),
      ]
    : undefined;
  return create(AuthorizationSchema, {
    name: `converted_peer_authentication_${resource.name}`,
    namespace: resource.namespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    rules:
      rules === undefined
        ? ports.map(({ port }) => ({
            clauses: [
              { matches: [noPrincipal()] },
              { matches: [create(MatchSchema, { destinationPorts: [port] })] },
            ],
          }))
        : [{ clauses: rules.map((matches) => ({ matches })) }],
  });
}

function noPrincipal(): Match {
  return create(MatchSchema, {
    notPrincipals: [{ matchType: { case: 'presence', value: {} } }],
  });
}

function staticStrict(rootNamespace: string): Authorization {
  return create(AuthorizationSchema, {
    name: STATIC_NAME,
    namespace: rootNamespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    rules: [{ clauses: [{ matches: [noPrincipal()] }] }],
  });
}
