// The status of a Deployment from its ReplicaSets: counts and the conditions Available and Progressing, in the words
// `kubectl rollout status` and `kubectl wait` look for.
import { dict, dicts, field, number, sameJson, text, timestamp } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { resolveShare, setCondition } from './pods.ts';

interface Counts {
  readonly replicas: number;
  readonly updatedReplicas: number;
  readonly readyReplicas: number;
  readonly availableReplicas: number;
  readonly unavailableReplicas: number;
}

const count = (set: KubeObject | undefined, member: string): number =>
  set === undefined ? 0 : number(field(set, 'status', member), 0);

function countsOf(
  current: KubeObject | undefined,
  others: readonly KubeObject[],
  desired: number,
): Counts {
  const all = (member: string): number =>
    others.reduce((total, set) => total + count(set, member), count(current, member));
  const available = all('availableReplicas');
  const wanted = Math.max(desired, all('replicas'));
  return {
    replicas: all('replicas'),
    updatedReplicas: count(current, 'replicas'),
    readyReplicas: all('readyReplicas'),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, wanted - available),
  };
}

/** The next status, and when to look again for the progress deadline. */
export function deploymentStatus(
  deployment: KubeObject,
  current: KubeObject | undefined,
  others: readonly KubeObject[],
  nowMs: number,
): { status: Dict; recheckMs: number | undefined } {
  const spec = dict(deployment['spec']);
  const before = dict(deployment['status']);
  const desired = number(spec['replicas'], 1);
  const counts = countsOf(current, others, desired);
  const now = timestamp(nowMs);
  const rolling = dict(dict(spec['strategy'])['rollingUpdate']);
  const maxUnavailable = resolveShare(rolling['maxUnavailable'], desired, false);
  const isAvailable = counts.availableReplicas >= desired - maxUnavailable;
  let conditions: Dict[] = setCondition(
    before['conditions'],
    isAvailable
      ? {
          type: 'Available',
          status: 'True',
          reason: 'MinimumReplicasAvailable',
          message: 'Deployment has minimum availability.',
        }
      : {
          type: 'Available',
          status: 'False',
          reason: 'MinimumReplicasUnavailable',
          message: 'Deployment does not have minimum availability.',
        },
    now,
  );
  const isComplete =
    counts.updatedReplicas === desired &&
    counts.replicas === desired &&
    counts.availableReplicas === desired;
  const name = current?.metadata.name ?? '';
  const progress = progressOf({ before, counts, isComplete, name, spec, nowMs });
  conditions = setCondition(conditions, progress.condition, now);
  const status = {
    ...before,
    observedGeneration: deployment.metadata.generation,
    ...counts,
    conditions,
  };
  return { status, recheckMs: progress.recheckMs };
}

interface ProgressInput {
  readonly before: Dict;
  readonly counts: Counts;
  readonly isComplete: boolean;
  readonly name: string;
  readonly spec: Dict;
  readonly nowMs: number;
}

function progressOf(input: ProgressInput): { condition: Dict; recheckMs: number | undefined } {
  const { before, counts, name, spec, nowMs } = input;
  const condition = (status: string, reason: string, message: string): Dict => ({
    type: 'Progressing',
    status,
    reason,
    message,
  });
  if (input.isComplete) {
    const message = `ReplicaSet "${name}" has successfully progressed.`;
    return {
      condition: condition('True', 'NewReplicaSetAvailable', message),
      recheckMs: undefined,
    };
  }
  const last = dicts(before['conditions']).find((item) => item['type'] === 'Progressing');
  const was = { ...counts } as Dict;
  const hasMoved = Object.keys(counts).some((member) => !sameJson(was[member], before[member]));
  const deadlineMs = number(spec['progressDeadlineSeconds'], 600) * 1000;
  const since = Date.parse(text(last?.['lastUpdateTime']));
  const isLate = last !== undefined && !hasMoved && nowMs - since >= deadlineMs;
  if (isLate && last['reason'] !== 'NewReplicaSetAvailable') {
    const message = `ReplicaSet "${name}" has timed out progressing.`;
    const late = condition('False', 'ProgressDeadlineExceeded', message);
    return { condition: late, recheckMs: undefined };
  }
  const message = `ReplicaSet "${name}" is progressing.`;
  return {
    condition: condition('True', 'ReplicaSetUpdated', message),
    recheckMs: deadlineMs + 1000,
  };
}
