// Pods: defaults, the service account admission (default account, projected token volume), the default tolerations,
// quality of service, and the rule that a running pod's spec hardly changes.
import { dict, dicts, isDict, list, randomSuffix, sameJson, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import type { FieldProblem } from '../status-error.ts';
import { defaultPodSpec } from './pod-defaults.ts';
import { required, unsupported } from './strategy.ts';
import type { Strategy } from './strategy.ts';

const TOKEN_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';
const TOKEN_SECONDS = 3607;
const EVICTION_SECONDS = 300;

/** Reads a pod's service account. */
export type AccountReader = (namespace: string, name: string) => KubeObject | undefined;

function tokenVolume(name: string): Dict {
  return {
    name,
    projected: {
      defaultMode: 0o644,
      sources: [
        { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
        {
          configMap: {
            name: 'kube-root-ca.crt',
            items: [{ key: 'ca.crt', path: 'ca.crt' }],
          },
        },
        {
          downwardAPI: {
            items: [
              {
                path: 'namespace',
                fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' },
              },
            ],
          },
        },
      ],
    },
  };
}

function mountToken(spec: Dict, account: KubeObject | undefined): void {
  const wanted = spec['automountServiceAccountToken'] ?? account?.['automountServiceAccountToken'];
  if (wanted === false) return;
  const containers = [...dicts(spec['initContainers']), ...dicts(spec['containers'])];
  const without = containers.filter(
    (container) =>
      !dicts(container['volumeMounts']).some((mount) => mount['mountPath'] === TOKEN_DIR),
  );
  if (without.length === 0) return;
  const name = `kube-api-access-${randomSuffix()}`;
  spec['volumes'] = [...list(spec['volumes']), tokenVolume(name)];
  for (const container of without) {
    const mount = { name, readOnly: true, mountPath: TOKEN_DIR };
    container['volumeMounts'] = [...list(container['volumeMounts']), mount];
  }
}

function addTolerations(spec: Dict): void {
  const tolerations = dicts(spec['tolerations']);
  const added: Dict[] = [];
  for (const name of ['not-ready', 'unreachable']) {
    const key = `node.kubernetes.io/${name}`;
    const known = tolerations.some(
      (item) =>
        (item['key'] === key || (item['key'] ?? '') === '') &&
        (item['effect'] ?? 'NoExecute') === 'NoExecute',
    );
    if (known) continue;
    added.push({
      key,
      operator: 'Exists',
      effect: 'NoExecute',
      tolerationSeconds: EVICTION_SECONDS,
    });
  }
  if (added.length > 0) spec['tolerations'] = [...tolerations, ...added];
}

/** BestEffort without any request or limit, Guaranteed when all are equal, else Burstable. */
function qosClass(spec: Dict): string {
  const resources = dicts(spec['containers']).map((container) => dict(container['resources']));
  const isEmpty = (value: unknown): boolean => Object.keys(dict(value)).length === 0;
  if (resources.every(({ requests, limits }) => isEmpty(requests) && isEmpty(limits))) {
    return 'BestEffort';
  }
  const isGuaranteed = resources.every(({ requests, limits }) => {
    const names = Object.keys(dict(limits));
    return names.includes('cpu') && names.includes('memory') && sameJson(requests, limits);
  });
  return isGuaranteed ? 'Guaranteed' : 'Burstable';
}

/** Problems of a pod spec that would make it meaningless to a kubelet. */
export function validatePodSpec(spec: Dict, at: string): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const containers = dicts(spec['containers']);
  if (containers.length === 0) problems.push(required(`${at}.containers`));
  const volumes = new Set(dicts(spec['volumes']).map((volume) => volume['name']));
  for (const [index, container] of containers.entries()) {
    const where = `${at}.containers[${index}]`;
    if (text(container['name']) === '') problems.push(required(`${where}.name`));
    if (text(container['image']) === '') problems.push(required(`${where}.image`));
    for (const [place, mount] of dicts(container['volumeMounts']).entries()) {
      if (volumes.has(mount['name'])) continue;
      problems.push({
        reason: 'FieldValueInvalid',
        field: `${where}.volumeMounts[${place}].name`,
        message: `Not found: ${JSON.stringify(mount['name'])}`,
      });
    }
  }
  const policy = text(spec['restartPolicy']);
  const policies = ['Always', 'OnFailure', 'Never'];
  if (!policies.includes(policy)) {
    problems.push(unsupported(`${at}.restartPolicy`, policy, policies));
  }
  return problems;
}

/** Fields of a pod's spec that may change once it exists. */
function frozen(spec: Dict): Dict {
  const images = (kind: string): unknown =>
    dicts(spec[kind]).map((container) => ({ ...container, image: '', resources: {} }));
  return {
    ...spec,
    containers: images('containers'),
    initContainers: images('initContainers'),
    ephemeralContainers: undefined,
    tolerations: undefined,
    activeDeadlineSeconds: undefined,
    terminationGracePeriodSeconds: undefined,
    schedulingGates: undefined,
    nodeName: undefined,
  };
}

function validateUpdate(object: KubeObject, before: KubeObject): FieldProblem[] {
  const was = dict(before['spec']);
  const isBinding = text(was['nodeName']) === '';
  const isNodeKept = isBinding || was['nodeName'] === dict(object['spec'])['nodeName'];
  if (isNodeKept && sameJson(frozen(dict(object['spec'])), frozen(was))) return [];
  return [
    {
      reason: 'FieldValueForbidden',
      field: 'spec',
      message:
        'Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`',
    },
  ];
}

/** The strategy of pods. */
export function podStrategy(accounts: AccountReader): Strategy {
  return {
    prepare(object, before) {
      const spec = (object['spec'] ??= {});
      if (!isDict(spec)) return;
      defaultPodSpec(spec);
      spec['enableServiceLinks'] ??= true;
      spec['preemptionPolicy'] ??= 'PreemptLowerPriority';
      spec['priority'] ??= 0;
      if (before !== undefined) return;
      spec['serviceAccountName'] ??= 'default';
      spec['serviceAccount'] = spec['serviceAccountName'];
      const name = text(spec['serviceAccountName']);
      mountToken(spec, accounts(object.metadata.namespace ?? '', name));
      addTolerations(spec);
    },
    validate(object, before) {
      const problems = validatePodSpec(dict(object['spec']), 'spec');
      return before === undefined ? problems : [...problems, ...validateUpdate(object, before)];
    },
    initialStatus: (object) => ({ phase: 'Pending', qosClass: qosClass(dict(object['spec'])) }),
  };
}
