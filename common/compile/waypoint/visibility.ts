// exportTo: which namespaces an object's owner lets use it.

/** Narrow to wide, in the order VirtualServices are tried. */
export type Reach = 'private' | 'exported' | 'public';

/** How far an object of a namespace is exported; the default is everywhere. */
export function reachOf(exportTo: readonly string[], namespace: string): Reach {
  if (exportTo.length === 0 || exportTo.includes('*')) return 'public';
  return exportTo.every((entry) => entry === '.' || entry === namespace) ? 'private' : 'exported';
}

/** True when a consumer in `consumer` may use an object of `namespace`. */
export function isVisible(
  exportTo: readonly string[],
  namespace: string,
  consumer: string,
): boolean {
  if (exportTo.includes('~')) return false;
  if (exportTo.length === 0 || exportTo.includes('*')) return true;
  return exportTo.includes(consumer) || (exportTo.includes('.') && namespace === consumer);
}
