// Which nodes a pod may run on: selectors, required node affinity, taints. Resources are not counted: everything runs
// on one machine anyway.
import { meetsOperator } from '../../../common/label-selector.ts';
import { dict, dicts, field, list, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { condition } from './pods.ts';

export function isNodeReady(node: KubeObject): boolean {
  return condition(node, 'Ready')?.['status'] === 'True';
}

/** Whether one of the tolerations covers a taint. */
function isTolerated(taint: Dict, tolerations: readonly Dict[]): boolean {
  return tolerations.some((toleration) => {
    const effect = text(toleration['effect']);
    if (effect !== '' && effect !== taint['effect']) return false;
    const key = text(toleration['key']);
    if (toleration['operator'] === 'Exists') return key === '' || key === taint['key'];
    return key === taint['key'] && text(toleration['value']) === text(taint['value']);
  });
}

function matchesExpression(expression: Dict, value: string | undefined): boolean {
  const values = list(expression['values']);
  switch (expression['operator']) {
    case 'Gt':
      return Number(value) > Number(values[0]);
    case 'Lt':
      return Number(value) < Number(values[0]);
    default:
      return meetsOperator(value, expression['operator'], values);
  }
}

function matchesAffinity(spec: Dict, node: KubeObject): boolean {
  const affinity = field(spec, 'affinity', 'nodeAffinity');
  const terms = field(
    affinity,
    'requiredDuringSchedulingIgnoredDuringExecution',
    'nodeSelectorTerms',
  );
  if (terms === undefined) return true;
  const labels = node.metadata.labels ?? {};
  return dicts(terms).some(
    (term) =>
      dicts(term['matchExpressions']).every((expression) =>
        matchesExpression(expression, labels[text(expression['key'])]),
      ) &&
      dicts(term['matchFields']).every((expression) =>
        matchesExpression(expression, node.metadata.name),
      ),
  );
}

/** Why a pod spec cannot run on a node; undefined when it can. */
export function nodeObstacle(spec: Dict, node: KubeObject): string | undefined {
  const labels = node.metadata.labels ?? {};
  const selector = Object.entries(dict(spec['nodeSelector']));
  if (!selector.every(([key, value]) => labels[key] === value)) {
    return "didn't match Pod's node affinity/selector";
  }
  if (!matchesAffinity(spec, node)) return "didn't match Pod's node affinity/selector";
  const tolerations = dicts(spec['tolerations']);
  const taint = dicts(field(node, 'spec', 'taints')).find(
    (item) => item['effect'] !== 'PreferNoSchedule' && !isTolerated(item, tolerations),
  );
  return taint === undefined ? undefined : `had untolerated taint {${text(taint['key'])}: }`;
}
