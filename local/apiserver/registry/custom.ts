// From a CustomResourceDefinition (apiextensions.k8s.io/v1) to the resources it serves.
import { dict, dicts, field, list, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { bucketOf } from './resource.ts';
import type { Column, Resource, ScalePaths } from './resource.ts';

const words = (value: unknown): string[] =>
  list(value).filter((item): item is string => typeof item === 'string');

function scalePaths(version: Dict): ScalePaths | undefined {
  const scale = field(version, 'subresources', 'scale');
  if (scale === undefined) return undefined;
  const selector = text(field(scale, 'labelSelectorPath'));
  return {
    spec: text(field(scale, 'specReplicasPath')),
    status: text(field(scale, 'statusReplicasPath')),
    selector: selector === '' ? undefined : selector,
  };
}

/** The resources of a definition: one for each served version. */
export function resourcesOfDefinition(definition: KubeObject): Resource[] {
  const spec = dict(definition['spec']);
  const names = dict(spec['names']);
  const group = text(spec['group']);
  const resource = text(names['plural']);
  const kind = text(names['kind']);
  const found: Resource[] = [];
  for (const version of dicts(spec['versions'])) {
    if (version['served'] !== true) continue;
    const subresources = Object.keys(dict(version['subresources']));
    found.push({
      group,
      version: text(version['name']),
      resource,
      singular: text(names['singular']) || kind.toLowerCase(),
      kind,
      namespaced: spec['scope'] === 'Namespaced',
      shortNames: words(names['shortNames']),
      categories: words(names['categories']),
      subresources,
      bucket: bucketOf(group, resource),
      scale: scalePaths(version),
      schema: dict(field(version, 'schema', 'openAPIV3Schema')),
      isCustom: true,
      columns: dicts(version['additionalPrinterColumns']).map(columnOf),
    });
  }
  return found;
}

function columnOf(column: Dict): Column {
  return {
    name: text(column['name']),
    type: text(column['type']),
    jsonPath: text(column['jsonPath']),
    priority: Number(column['priority'] ?? 0),
    format: text(column['format']),
    description: text(column['description']),
  };
}
