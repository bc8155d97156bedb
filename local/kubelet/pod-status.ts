// A pod's status as the kubelet reports it, computed from its containers. Pure.
import type { Condition, ContainerStatus, Pod, PodStatus } from './objects.ts';

export interface PodState {
  readonly hostIp: string;
  /** The first is the pod's main address; none until it has a network. */
  readonly podIps: readonly string[];
  readonly startTime: string;
  readonly isInitialized: boolean;
  readonly isTerminating: boolean;
  readonly initContainers: readonly ContainerStatus[];
  readonly containers: readonly ContainerStatus[];
}

/** A container that has not been started yet. */
export function waitingStatus(
  container: { readonly name: string; readonly image?: string },
  reason: string,
): ContainerStatus {
  return {
    name: container.name,
    image: container.image ?? '',
    imageID: '',
    ready: false,
    started: false,
    restartCount: 0,
    state: { waiting: { reason } },
    lastState: {},
  };
}

/** The phase: Failed and Succeeded only when no container will run again. */
export function podPhase(pod: Pod, state: PodState): string {
  const policy = pod.spec.restartPolicy ?? 'Always';
  const ended = state.containers.map(({ state: now }) => now.terminated?.exitCode);
  const isOver = (code: number | undefined): boolean =>
    code !== undefined && (policy === 'Never' || (policy === 'OnFailure' && code === 0));
  const initFailed =
    policy === 'Never' &&
    state.initContainers.some(({ state: now }) => (now.terminated?.exitCode ?? 0) !== 0);
  if (initFailed) return 'Failed';
  if (!state.isInitialized) return 'Pending';
  if (ended.length > 0 && ended.every((code) => isOver(code))) {
    return ended.every((code) => code === 0) ? 'Succeeded' : 'Failed';
  }
  const anyStarted = state.containers.some(
    ({ state: now, restartCount }) => now.waiting === undefined || restartCount > 0,
  );
  return anyStarted ? 'Running' : 'Pending';
}

function condition(
  old: readonly Condition[],
  type: string,
  isTrue: boolean,
  reason?: string,
): Condition {
  const status = isTrue ? 'True' : 'False';
  const known = old.find((entry) => entry.type === type);
  const since =
    known?.status === status && known.lastTransitionTime !== undefined
      ? known.lastTransitionTime
      : new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  return {
    type,
    status,
    lastTransitionTime: since,
    ...(isTrue || reason === undefined ? {} : { reason }),
  };
}

const OWN_CONDITIONS = [
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
  'PodScheduled',
];

/** The whole status to write. `old` keeps transition times and conditions that others own. */
export function buildPodStatus(pod: Pod, state: PodState, old: PodStatus | undefined): PodStatus {
  const phase = podPhase(pod, state);
  const before = old?.conditions ?? [];
  const [first] = state.podIps;
  const isReady = state.containers.length > 0 && state.containers.every(({ ready }) => ready);
  const reason = phase === 'Succeeded' ? 'PodCompleted' : 'ContainersNotReady';
  const conditions = [
    condition(before, 'PodReadyToStartContainers', state.podIps.length > 0),
    condition(before, 'Initialized', state.isInitialized, 'ContainersNotInitialized'),
    condition(before, 'Ready', isReady, reason),
    condition(before, 'ContainersReady', isReady, reason),
    condition(before, 'PodScheduled', true),
    ...before.filter(({ type }) => !OWN_CONDITIONS.includes(type)),
  ];
  return {
    phase,
    hostIP: state.hostIp,
    hostIPs: [{ ip: state.hostIp }],
    ...(first === undefined ? {} : { podIP: first, podIPs: state.podIps.map((ip) => ({ ip })) }),
    startTime: state.startTime,
    conditions,
    ...(state.initContainers.length === 0 ? {} : { initContainerStatuses: state.initContainers }),
    containerStatuses: state.containers,
  };
}
