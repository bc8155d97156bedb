// Status of a waypoint's Gateway: pure. Addresses appear once the Service has one and an endpoint is ready, and are
// never taken back: node proxies must not lose their way to L7 because a waypoint restarts.
import type { Condition, GatewayObject, GatewayStatus } from './waypoint-objects.ts';

/** What the status depends on. */
export interface GatewayFacts {
  /** Cluster IPs of the Service; empty while there is none. */
  readonly clusterIps: readonly string[];
  readonly hostname: string;
  readonly readyEndpoints: number;
  /** Why the objects cannot be made; undefined when they can. */
  readonly problem?: string;
}

const ADDRESS_TYPE = 'networking.istio.io/address-type';

/** The wanted status. `now` is an RFC 3339 time for conditions that change. */
export function buildGatewayStatus(
  gateway: GatewayObject,
  facts: GatewayFacts,
  now: string,
): GatewayStatus {
  const generation = gateway.metadata?.generation ?? 1;
  const { status } = gateway;
  const old = status?.addresses ?? [];
  const isReady = facts.clusterIps.length > 0 && facts.readyEndpoints > 0;
  const addresses = isReady ? wantedAddresses(gateway, facts) : old;
  const condition = (
    before: readonly Condition[] | undefined,
    fields: Omit<Condition, 'observedGeneration' | 'lastTransitionTime'>,
  ): Condition => {
    const same = before?.find(({ type, status: s }) => type === fields.type && s === fields.status);
    return {
      ...fields,
      observedGeneration: generation,
      lastTransitionTime: same?.lastTransitionTime ?? now,
    };
  };
  const programmed = programmedCondition(facts, isReady || old.length > 0);
  return {
    addresses,
    conditions: [
      condition(status?.conditions, acceptedCondition(gateway, facts)),
      condition(status?.conditions, programmed),
    ],
    listeners: (gateway.spec?.listeners ?? []).map(({ name }) => {
      const before = status?.listeners?.find((listener) => listener.name === name)?.conditions;
      return {
        name,
        attachedRoutes: 0,
        supportedKinds: [],
        conditions: [
          condition(before, {
            type: 'Accepted',
            status: 'True',
            reason: 'Accepted',
            message: 'No errors found',
          }),
          condition(before, {
            type: 'Conflicted',
            status: 'False',
            reason: 'NoConflicts',
            message: 'No errors found',
          }),
          condition(before, {
            type: 'ResolvedRefs',
            status: 'True',
            reason: 'ResolvedRefs',
            message: 'No errors found',
          }),
          condition(before, programmed),
        ],
      };
    }),
  };
}

function acceptedCondition(
  gateway: GatewayObject,
  { problem }: GatewayFacts,
): Omit<Condition, 'observedGeneration'> {
  if (problem !== undefined) {
    return { type: 'Accepted', status: 'False', reason: 'Invalid', message: problem };
  }
  const listeners = gateway.spec?.listeners ?? [];
  const hasMesh = listeners.some(({ port, protocol }) => port === 15_008 && protocol === 'HBONE');
  return {
    type: 'Accepted',
    status: 'True',
    reason: 'Accepted',
    message: hasMesh
      ? 'Resource accepted'
      : 'Resource accepted; a waypoint expects a single listener with protocol HBONE and port 15008',
  };
}

function programmedCondition(
  facts: GatewayFacts,
  isProgrammed: boolean,
): Omit<Condition, 'observedGeneration'> {
  if (isProgrammed) {
    const message = `Resource programmed, assigned to service(s) ${facts.hostname}:15008`;
    return { type: 'Programmed', status: 'True', reason: 'Programmed', message };
  }
  const message =
    facts.problem ??
    (facts.clusterIps.length === 0
      ? 'The service has no address yet'
      : 'No pod of the waypoint is ready yet');
  return { type: 'Programmed', status: 'False', reason: 'Pending', message };
}

function wantedAddresses(
  gateway: GatewayObject,
  { clusterIps, hostname }: GatewayFacts,
): NonNullable<GatewayStatus['addresses']> {
  const only = gateway.metadata?.annotations?.[ADDRESS_TYPE];
  const all = [
    ...clusterIps.map((value) => ({ type: 'IPAddress', value })),
    { type: 'Hostname', value: hostname },
  ];
  return only === undefined ? all : all.filter(({ type }) => type === only);
}

/** Whether two statuses say the same, whatever the order of keys. */
export function isSameStatus(a: GatewayStatus | undefined, b: GatewayStatus): boolean {
  return a !== undefined && canonical(a) === canonical(b);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    item !== null && typeof item === 'object' && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([x], [y]) => (x < y ? -1 : 1)))
      : item,
  );
}
