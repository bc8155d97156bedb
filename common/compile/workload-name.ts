// Names that telemetry uses for a pod: its workload (from the owning controller), canonical name and revision.
import type { ResourceMeta } from '../resources/resource.ts';
import type { PodEntity } from './entities.ts';

/** The name of what created the pod: the deployment rather than its replica set, the cron job rather than its job. */
export function workloadName(pod: PodEntity): string {
  const override = pod.labels['service.istio.io/workload-name'];
  if (override !== undefined && override !== '') return override;
  const owners = pod.pod.metadata?.ownerReferences ?? [];
  const owner = owners.find((entry) => entry.controller === true);
  if (owner === undefined) return pod.name;
  if (owner.kind === 'ReplicaSet') {
    const hash = pod.labels['pod-template-hash'];
    const suffix = hash === undefined || hash === '' ? undefined : `-${hash}`;
    if (suffix !== undefined && owner.name.endsWith(suffix)) {
      return owner.name.slice(0, -suffix.length);
    }
    return owner.name;
  }
  // A CronJob names its jobs "<name>-<minutes since the epoch>".
  if (owner.kind === 'Job') return owner.name.replace(/-\d{8,}$/, '');
  return owner.name;
}

/** `app` in telemetry. */
export function canonicalName(pod: PodEntity): string {
  return canonicalNameOf(pod, workloadName(pod));
}

/** The same for anything with labels. */
export function canonicalNameOf(
  { labels }: Pick<ResourceMeta, 'labels'>,
  fallback: string,
): string {
  return (
    labels['service.istio.io/canonical-name'] ??
    labels['app.kubernetes.io/name'] ??
    labels['app'] ??
    fallback
  );
}

/** `version` in telemetry. */
export function canonicalRevision({ labels }: Pick<ResourceMeta, 'labels'>): string {
  return (
    labels['service.istio.io/canonical-revision'] ??
    labels['app.kubernetes.io/version'] ??
    labels['version'] ??
    'latest'
  );
}
