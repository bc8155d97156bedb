// The built-in kinds this server stores, one line each:
// group/version Kind plural [short,names] N|C (namespaced or cluster-scoped) [subresources] [categories].
import { builtinSchema } from '../schema/builtin.ts';
import { bucketOf } from './resource.ts';
import type { Resource } from './resource.ts';

const TABLE = `
/v1 Namespace namespaces ns C status -
/v1 Pod pods po N status all
/v1 Service services svc N status all
/v1 ConfigMap configmaps cm N - -
/v1 Secret secrets - N - -
/v1 ServiceAccount serviceaccounts sa N - -
/v1 Node nodes no C status -
/v1 Event events ev N - -
/v1 Endpoints endpoints ep N - -
/v1 PersistentVolumeClaim persistentvolumeclaims pvc N status -
/v1 PersistentVolume persistentvolumes pv C status -
/v1 ResourceQuota resourcequotas quota N status -
/v1 LimitRange limitranges limits N - -
/v1 ReplicationController replicationcontrollers rc N status,scale all
/v1 PodTemplate podtemplates - N - -
apps/v1 Deployment deployments deploy N status,scale all
apps/v1 ReplicaSet replicasets rs N status,scale all
apps/v1 DaemonSet daemonsets ds N status all
apps/v1 StatefulSet statefulsets sts N status,scale all
apps/v1 ControllerRevision controllerrevisions - N - -
batch/v1 Job jobs - N status all
batch/v1 CronJob cronjobs cj N status all
discovery.k8s.io/v1 EndpointSlice endpointslices - N - -
coordination.k8s.io/v1 Lease leases - N - -
events.k8s.io/v1 Event events ev N - -
rbac.authorization.k8s.io/v1 Role roles - N - -
rbac.authorization.k8s.io/v1 RoleBinding rolebindings - N - -
rbac.authorization.k8s.io/v1 ClusterRole clusterroles - C - -
rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings - C - -
policy/v1 PodDisruptionBudget poddisruptionbudgets pdb N status -
autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers hpa N status all
networking.k8s.io/v1 Ingress ingresses ing N status -
networking.k8s.io/v1 IngressClass ingressclasses - C - -
networking.k8s.io/v1 NetworkPolicy networkpolicies netpol N - -
networking.k8s.io/v1 IPAddress ipaddresses ip C - -
networking.k8s.io/v1 ServiceCIDR servicecidrs - C status -
scheduling.k8s.io/v1 PriorityClass priorityclasses pc C - -
storage.k8s.io/v1 StorageClass storageclasses sc C - -
admissionregistration.k8s.io/v1 MutatingWebhookConfiguration mutatingwebhookconfigurations - C - -
admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration validatingwebhookconfigurations - C - -
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy validatingadmissionpolicies - C status -
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings - C - -
apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions crd,crds C status api-extensions
`;

function parseLine(line: string): Resource {
  const [groupVersion = '', kind = '', resource = '', short = '', scope = '', subs = '', category] =
    line.split(' ');
  const slash = groupVersion.indexOf('/');
  const group = groupVersion.slice(0, slash);
  const words = (text: string | undefined): string[] =>
    text === undefined || text === '-' ? [] : text.split(',');
  const subresources = words(subs);
  return {
    group,
    version: groupVersion.slice(slash + 1),
    resource,
    singular: kind.toLowerCase(),
    kind,
    namespaced: scope === 'N',
    shortNames: words(short),
    categories: words(category),
    subresources,
    bucket: group === 'events.k8s.io' ? bucketOf('', resource) : bucketOf(group, resource),
    scale: subresources.includes('scale')
      ? { spec: '.spec.replicas', status: '.status.replicas', selector: undefined }
      : undefined,
    // Built when first asked for, to start quickly.
    get schema() {
      return builtinSchema(groupVersion.replace(/^\//, ''), kind);
    },
    isCustom: false,
    columns: undefined,
  };
}

/** The built-in resources. */
export const BUILTIN_RESOURCES: readonly Resource[] = TABLE.trim().split('\n').map(parseLine);

/** Buckets by the names controllers use. */
export const BUCKETS = {
  namespaces: '/namespaces',
  pods: '/pods',
  services: '/services',
  configMaps: '/configmaps',
  secrets: '/secrets',
  serviceAccounts: '/serviceaccounts',
  nodes: '/nodes',
  events: '/events',
  endpoints: '/endpoints',
  deployments: 'apps/deployments',
  replicaSets: 'apps/replicasets',
  daemonSets: 'apps/daemonsets',
  statefulSets: 'apps/statefulsets',
  jobs: 'batch/jobs',
  endpointSlices: 'discovery.k8s.io/endpointslices',
  leases: 'coordination.k8s.io/leases',
  crds: 'apiextensions.k8s.io/customresourcedefinitions',
} as const;
