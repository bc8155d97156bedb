// Which container a request means that names none.
import { dict, dicts, text } from '../objects.ts';
import type { KubeObject } from '../objects.ts';

/** The container of the pod's default-container annotation, else its first one. */
export function firstContainer(pod: KubeObject): string {
  const wanted = pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  return wanted ?? text(dicts(dict(pod['spec'])['containers'])[0]?.['name']);
}
