// Verdicts as status conditions, in the words Istio's and the Gateway API's tools look for. Pure: who writes them
// adds transition times, keeps other controllers' conditions, and removes ours that are no longer listed here.
import { ParentReferenceSchema, type ParentReference } from '../resources/gen/gateway_api_pb.ts';
import { Problems } from '../resources/problem.ts';
import { isRecord, readMessage } from '../resources/read-message.ts';
import { groupBy } from './mesh-model.ts';
import type { CompileInput, CompileOutput, ConfigObject, Verdict } from './types.ts';

export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False';
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
}

/** The status of an HTTPRoute for one of its parents. */
export interface ParentStatus {
  /** As the route writes it. */
  readonly parentRef: unknown;
  readonly controllerName: string;
  readonly conditions: readonly Condition[];
}

/** What belongs into one object's status. */
export interface StatusUpdate {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly conditions: readonly Condition[];
  readonly parents?: readonly ParentStatus[];
}

/** Types of conditions that are ours to add and remove. */
export const WAYPOINT_BOUND = 'istio.io/WaypointBound';
export const WAYPOINT_ACCEPTED = 'WaypointAccepted';
export const ZTUNNEL_ACCEPTED = 'ZtunnelAccepted';
export const MESH_ACCEPTED = 'ambient-mesh.io/Accepted';
/** Who speaks in the status of HTTPRoutes with Service parents. */
export const ROUTE_CONTROLLER = 'istio.io/gateway-controller';

const MAX_FINDINGS = 10;
const PLAIN_KINDS = ['VirtualService', 'DestinationRule', 'PeerAuthentication', 'ServiceEntry'];
const PARENT_FIELD = /^spec\.parentRefs\[(\d+)\]$/;
const UNRESOLVED = ['BackendNotFound', 'PortNotFound', 'InvalidKind'];

/** The status of every object that verdicts or bindings speak of, in a fixed order. */
export function buildStatus(input: CompileInput, output: CompileOutput): StatusUpdate[] {
  const updates: StatusUpdate[] = output.bindings
    .filter((binding) => binding.kind !== 'Pod')
    .map((binding) => {
      const { kind, namespace, name, reason, message, generation } = binding;
      const status = binding.bound ? 'True' : 'False';
      const condition = {
        type: WAYPOINT_BOUND,
        status,
        reason,
        message,
        ...at(generation),
      } as const;
      return { kind, namespace, name, conditions: [condition] };
    });
  const byObject = groupBy(output.verdicts, ({ kind, namespace, name }) =>
    [kind, namespace, name].join('/'),
  );
  const routes = new Map((input.httpRoutes ?? []).map((route) => [routeKey(route), route]));
  for (const verdicts of byObject.values()) {
    const [first] = verdicts;
    if (first === undefined) continue;
    const { kind, namespace, name } = first;
    if (kind === 'AuthorizationPolicy') {
      updates.push({ kind, namespace, name, conditions: [policyCondition(verdicts)] });
    } else if (PLAIN_KINDS.includes(kind)) {
      updates.push({ kind, namespace, name, conditions: [acceptedCondition(verdicts)] });
    } else if (kind === 'HTTPRoute') {
      const parents = routeParents(routes.get(`${namespace}/${name}`), verdicts);
      updates.push({ kind, namespace, name, conditions: [], parents });
    }
  }
  return mergeUpdates(updates);
}

// A ServiceEntry has a binding for each host and a condition of its own; the first of a type is kept.
function mergeUpdates(updates: readonly StatusUpdate[]): StatusUpdate[] {
  const merged = new Map<string, StatusUpdate>();
  for (const update of updates) {
    const key = `${update.kind}/${update.namespace}/${update.name}`;
    const known = merged.get(key);
    const types = known?.conditions.map(({ type }) => type) ?? [];
    const added = update.conditions.filter(({ type }) => !types.includes(type));
    const conditions = [...(known?.conditions ?? []), ...added];
    merged.set(key, { ...update, conditions });
  }
  return [...merged.values()];
}

function routeKey(route: ConfigObject): string {
  return `${route.metadata?.namespace ?? ''}/${route.metadata?.name ?? ''}`;
}

function at(generation: number | undefined): { readonly observedGeneration?: number } {
  return generation === undefined ? {} : { observedGeneration: generation };
}

function split(verdicts: readonly Verdict[]): { executed: Verdict[]; failed: Verdict[] } {
  return {
    executed: verdicts.filter((verdict) => verdict.enforcedAt !== 'nowhere'),
    failed: verdicts.filter((verdict) => verdict.enforcedAt === 'nowhere'),
  };
}

function summary(verdicts: readonly Verdict[]): string {
  const messages = [...new Set(verdicts.map(({ message }) => message))];
  const shown = messages.slice(0, MAX_FINDINGS).join('; ');
  const more = messages.length - MAX_FINDINGS;
  return more > 0 ? `${shown}; and ${more} more` : shown;
}

// Executed entirely, in part, or not at all.
function acceptedCondition(verdicts: readonly Verdict[]): Condition {
  const { executed, failed } = split(verdicts);
  const base = { type: MESH_ACCEPTED, ...at(verdicts[0]?.generation) };
  const [failure] = failed;
  if (failure === undefined) {
    return { ...base, status: 'True', reason: 'Accepted', message: summary(executed) };
  }
  if (executed.length === 0) {
    return { ...base, status: 'False', reason: failure.reason, message: summary(failed) };
  }
  return { ...base, status: 'True', reason: 'PartiallyAccepted', message: summary(failed) };
}

function policyCondition(verdicts: readonly Verdict[]): Condition {
  const isForWaypoint = verdicts.some(
    ({ field, enforcedAt }) => enforcedAt === 'waypoint' || field.startsWith('spec.targetRef'),
  );
  const { executed, failed } = split(verdicts);
  const type = isForWaypoint ? WAYPOINT_ACCEPTED : ZTUNNEL_ACCEPTED;
  const base = { type, ...at(verdicts[0]?.generation) };
  const [failure] = failed;
  if (failure === undefined) {
    return { ...base, status: 'True', reason: 'Accepted', message: summary(executed) };
  }
  const message = summary(failed);
  if (!isForWaypoint) {
    const reason = failure.reason === 'RequiresWaypoint' ? 'UnsupportedValue' : failure.reason;
    return { ...base, status: 'False', reason, message };
  }
  return executed.length > 0
    ? { ...base, status: 'True', reason: 'PartiallyInvalid', message }
    : { ...base, status: 'False', reason: failure.reason, message };
}

// Only Service parents are ours; what a Gateway makes of the route is its controller's to say.
function routeParents(
  route: ConfigObject | undefined,
  verdicts: readonly Verdict[],
): ParentStatus[] {
  const spec = isRecord(route?.spec) ? route.spec : {};
  const refs: readonly unknown[] = Array.isArray(spec['parentRefs']) ? spec['parentRefs'] : [];
  const whole = verdicts.filter(({ reason }) => reason === 'Invalid');
  const unresolved = verdicts.filter(({ reason }) => UNRESOLVED.includes(reason));
  return refs.flatMap((parentRef, index) => {
    const parent = readMessage(ParentReferenceSchema, parentRef, new Problems('spec'));
    if (!isService(parent)) return [];
    const own = verdicts.filter(({ field }) => Number(PARENT_FIELD.exec(field)?.[1]) === index);
    const conditions = [acceptedByParent(own, whole), resolvedRefs(unresolved, verdicts)];
    return [{ parentRef, controllerName: ROUTE_CONTROLLER, conditions }];
  });
}

function isService(parent: ParentReference): boolean {
  return parent.kind === 'Service' && (parent.group ?? '') === '';
}

function acceptedByParent(own: readonly Verdict[], whole: readonly Verdict[]): Condition {
  const generation = at([...own, ...whole][0]?.generation);
  const base = { type: 'Accepted', ...generation };
  if (whole.length > 0) {
    return { ...base, status: 'False', reason: 'UnsupportedValue', message: summary(whole) };
  }
  const failure = own.find(({ enforcedAt }) => enforcedAt === 'nowhere');
  if (failure !== undefined) {
    return { ...base, status: 'False', reason: failure.reason, message: failure.message };
  }
  return { ...base, status: 'True', reason: 'Accepted', message: summary(own) };
}

function resolvedRefs(unresolved: readonly Verdict[], all: readonly Verdict[]): Condition {
  const base = { type: 'ResolvedRefs', ...at(all[0]?.generation) };
  const [failure] = unresolved;
  if (failure === undefined) {
    return { ...base, status: 'True', reason: 'ResolvedRefs', message: 'all references resolved' };
  }
  const reason = failure.reason === 'InvalidKind' ? 'InvalidKind' : 'BackendNotFound';
  return { ...base, status: 'False', reason, message: summary(unresolved) };
}
