// Deployments, ReplicaSets, DaemonSets, StatefulSets and Jobs: defaults and the checks users run into.
import { dict, isDict, randomSuffix, sameJson } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import type { FieldProblem } from '../status-error.ts';
import { matchesSelector } from '../selectors.ts';
import { defaultPodSpec } from './pod-defaults.ts';
import { validatePodSpec } from './pod.ts';
import { required, wrong } from './strategy.ts';
import type { Strategy } from './strategy.ts';

function templateOf(spec: Dict): Dict {
  const template = dict(spec['template']);
  const podSpec = template['spec'];
  if (isDict(podSpec)) defaultPodSpec(podSpec);
  return template;
}

function rollingDefaults(spec: Dict, member: string, defaults: Dict): void {
  const strategy = dict((spec[member] ??= {}));
  strategy['type'] ??= 'RollingUpdate';
  if (strategy['type'] === 'RollingUpdate') {
    strategy['rollingUpdate'] = { ...defaults, ...dict(strategy['rollingUpdate']) };
  }
}

function validateTemplate(object: KubeObject, before: KubeObject | undefined): FieldProblem[] {
  const spec = dict(object['spec']);
  const selector = spec['selector'];
  if (!isDict(selector)) return [required('spec.selector')];
  const problems = validatePodSpec(dict(dict(spec['template'])['spec']), 'spec.template.spec');
  const labels = dict(dict(dict(spec['template'])['metadata'])['labels']) as Record<string, string>;
  if (!matchesSelector(selector, labels)) {
    problems.push(
      wrong('spec.template.metadata.labels', labels, '`selector` does not match template `labels`'),
    );
  }
  if (before !== undefined && !sameJson(selector, dict(before['spec'])['selector'])) {
    problems.push(wrong('spec.selector', selector, 'field is immutable'));
  }
  return problems;
}

function strategyFor(defaults: (spec: Dict) => void): Strategy {
  return {
    prepare(object) {
      const spec = dict((object['spec'] ??= {}));
      defaults(spec);
      templateOf(spec);
    },
    validate: validateTemplate,
    initialStatus: () => ({}),
  };
}

export const deploymentStrategy = strategyFor((spec) => {
  spec['replicas'] ??= 1;
  spec['revisionHistoryLimit'] ??= 10;
  spec['progressDeadlineSeconds'] ??= 600;
  rollingDefaults(spec, 'strategy', { maxUnavailable: '25%', maxSurge: '25%' });
});

export const replicaSetStrategy = strategyFor((spec) => {
  spec['replicas'] ??= 1;
});

export const daemonSetStrategy = strategyFor((spec) => {
  spec['revisionHistoryLimit'] ??= 10;
  rollingDefaults(spec, 'updateStrategy', { maxUnavailable: 1, maxSurge: 0 });
});

export const statefulSetStrategy = strategyFor((spec) => {
  spec['replicas'] ??= 1;
  spec['revisionHistoryLimit'] ??= 10;
  spec['podManagementPolicy'] ??= 'OrderedReady';
  rollingDefaults(spec, 'updateStrategy', { partition: 0 });
});

/** Jobs get a selector of their own, by their uid. */
export const jobStrategy: Strategy = {
  prepare(object, before) {
    const spec = dict((object['spec'] ??= {}));
    spec['parallelism'] ??= 1;
    spec['completions'] ??= 1;
    spec['backoffLimit'] ??= 6;
    spec['completionMode'] ??= 'NonIndexed';
    spec['suspend'] ??= false;
    const template = dict((spec['template'] ??= {}));
    if (isDict(template['spec'])) defaultPodSpec(template['spec']);
    if (before !== undefined || spec['selector'] !== undefined) return;
    const own = { 'batch.kubernetes.io/controller-uid': object.metadata.uid || randomSuffix(10) };
    const name = { 'batch.kubernetes.io/job-name': object.metadata.name };
    spec['selector'] = { matchLabels: own };
    const metadata = dict((template['metadata'] ??= {}));
    metadata['labels'] = { ...dict(metadata['labels']), ...own, ...name };
  },
  initialStatus: () => ({}),
};
