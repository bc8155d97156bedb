// A stored object as one version of its resource serves it. Versions of a custom resource differ in apiVersion
// alone (conversion strategy None); Events have two shapes, core/v1 and events.k8s.io/v1, stored as they were written.
import { dict, text } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { apiVersionOf } from '../registry/resource.ts';
import type { Resource } from '../registry/resource.ts';

const cache = new WeakMap<KubeObject, Map<string, KubeObject>>();

/** The object at the resource's version; the same one for the same input, so that its JSON is made once. */
export function servedAs(resource: Resource, object: KubeObject): KubeObject {
  const apiVersion = apiVersionOf(resource);
  if (object.apiVersion === apiVersion) return object;
  let versions = cache.get(object);
  if (versions === undefined) cache.set(object, (versions = new Map<string, KubeObject>()));
  let served = versions.get(apiVersion);
  if (served === undefined) {
    served = object.kind === 'Event' ? convertEvent(object, apiVersion) : { ...object, apiVersion };
    versions.set(apiVersion, served);
  }
  return served;
}

function convertEvent(event: KubeObject, apiVersion: string): KubeObject {
  const { involvedObject, message, source, firstTimestamp, lastTimestamp, count } = event;
  const { regarding, note, deprecatedSource, ...rest } = event;
  const { deprecatedFirstTimestamp, deprecatedLastTimestamp, deprecatedCount } = event;
  if (apiVersion === 'v1') {
    const series = dict(event['series']);
    const created = event.metadata.creationTimestamp;
    return {
      ...rest,
      apiVersion,
      involvedObject: regarding,
      message: note,
      source: deprecatedSource ?? { component: text(event['reportingController']) },
      firstTimestamp: deprecatedFirstTimestamp ?? event['eventTime'] ?? created,
      lastTimestamp:
        deprecatedLastTimestamp ?? series['lastObservedTime'] ?? event['eventTime'] ?? created,
      count: deprecatedCount ?? series['count'] ?? 1,
    };
  }
  return {
    ...event,
    apiVersion,
    regarding: involvedObject,
    note: message,
    deprecatedSource: source,
    deprecatedFirstTimestamp: firstTimestamp,
    deprecatedLastTimestamp: lastTimestamp,
    deprecatedCount: count,
    involvedObject: undefined,
    message: undefined,
    source: undefined,
    firstTimestamp: undefined,
    lastTimestamp: undefined,
    count: undefined,
  };
}
