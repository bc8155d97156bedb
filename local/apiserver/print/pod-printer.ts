// The STATUS and RESTARTS columns of pods, which kubectl users read more into than any other.
import { dict, dicts, field, number, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { age } from './age.ts';

function terminatedReason(state: Dict): string {
  const reason = text(state['reason']);
  if (reason !== '') return reason;
  const signal = number(state['signal'], 0);
  return signal === 0 ? `ExitCode:${number(state['exitCode'], 0)}` : `Signal:${signal}`;
}

/** Why the pod is not past its init containers; undefined when it is. */
function initReason(pod: KubeObject): string | undefined {
  const statuses = dicts(field(pod, 'status', 'initContainerStatuses'));
  const specs = dicts(field(pod, 'spec', 'initContainers'));
  for (const [index, item] of statuses.entries()) {
    const state = dict(item['state']);
    const terminated = state['terminated'];
    if (terminated !== undefined && dict(terminated)['exitCode'] === 0) continue;
    const isSidecar = specs[index]?.['restartPolicy'] === 'Always';
    if (isSidecar && item['started'] === true) continue;
    if (terminated !== undefined) return `Init:${terminatedReason(dict(terminated))}`;
    const waiting = text(dict(state['waiting'])['reason']);
    if (waiting !== '' && waiting !== 'PodInitializing') return `Init:${waiting}`;
    return `Init:${index}/${specs.length}`;
  }
  return undefined;
}

function containerReason(statuses: readonly Dict[]): string | undefined {
  let reason: string | undefined;
  let hasRunning = false;
  for (const item of statuses) {
    const state = dict(item['state']);
    const waiting = text(dict(state['waiting'])['reason']);
    if (waiting !== '') reason = waiting;
    else if (state['terminated'] !== undefined)
      reason = terminatedReason(dict(state['terminated']));
    else if (item['ready'] === true && state['running'] !== undefined) hasRunning = true;
  }
  return reason === 'Completed' && hasRunning ? 'Running' : reason;
}

/** Ready, Status, Restarts and the wide columns of a pod. */
export function podCells(pod: KubeObject): unknown[] {
  const status = dict(pod['status']);
  const statuses = dicts(status['containerStatuses']);
  const total = dicts(field(pod, 'spec', 'containers')).length;
  const ready = statuses.filter((item) => item['ready'] === true).length;
  const restarts = statuses.reduce((sum, item) => sum + number(item['restartCount'], 0), 0);
  const finished = statuses
    .map((item) => text(field(item, 'lastState', 'terminated', 'finishedAt')))
    .filter((time) => time !== '')
    .sort();
  const last = finished.at(-1);
  let reason = text(status['reason']) || text(status['phase']);
  reason = initReason(pod) ?? containerReason(statuses) ?? reason;
  if (pod.metadata.deletionTimestamp !== undefined) reason = 'Terminating';
  return [
    pod.metadata.name,
    `${ready}/${total}`,
    reason,
    restarts > 0 && last !== undefined ? `${restarts} (${age(last)} ago)` : String(restarts),
    age(pod.metadata.creationTimestamp),
    text(status['podIP']) || '<none>',
    text(field(pod, 'spec', 'nodeName')) || '<none>',
    text(status['nominatedNodeName']) || '<none>',
    '<none>',
  ];
}
