// Server-side tables (meta.k8s.io Table), which kubectl prints: columns of built-in kinds as kubectl users know them,
// those of custom resources from their definition.
import type { KubeObject } from '../objects.ts';
import type { Column, Resource } from '../registry/resource.ts';
import { age } from './age.ts';
import { evaluatePath } from './json-path.ts';
import { PRINTERS } from './printers.ts';

interface ColumnDefinition {
  readonly name: string;
  readonly type: string;
  readonly format: string;
  readonly description: string;
  readonly priority: number;
}

export interface Table {
  readonly kind: 'Table';
  readonly apiVersion: string;
  readonly metadata: object;
  readonly columnDefinitions: readonly ColumnDefinition[];
  readonly rows: readonly { cells: unknown[]; object?: unknown }[];
}

const define = (name: string, priority = 0, type = 'string', format = ''): ColumnDefinition => ({
  name,
  type,
  format,
  description: name,
  priority,
});

const NAME = define('Name', 0, 'string', 'name');
const AGE: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

function customColumns(resource: Resource): readonly Column[] {
  const columns = resource.columns ?? [];
  return columns.length === 0 ? [AGE] : columns;
}

function customCell(column: Column, object: KubeObject): unknown {
  const values = evaluatePath(column.jsonPath, object);
  const [first] = values;
  if (column.type === 'date') return typeof first === 'string' ? age(first) : '<unknown>';
  if (first === undefined) return column.type === 'string' ? '' : null;
  if (column.type === 'integer' || column.type === 'number' || column.type === 'boolean') {
    return first;
  }
  const shown = values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value)));
  return shown.join(',');
}

/** The table of some objects of one resource. */
export function buildTable(
  resource: Resource,
  objects: readonly KubeObject[],
  options: { version: string; include: string },
): Table {
  const printer = resource.isCustom ? undefined : PRINTERS[resource.kind];
  const columns = customColumns(resource);
  const columnDefinitions =
    printer === undefined
      ? [NAME, ...columns.map(({ name, type, priority }) => define(name, priority, type))]
      : [
          ...printer.columns.map((name) => (name === 'Name' ? NAME : define(name))),
          ...printer.wide.map((name) => define(name, 1)),
        ];
  const cells = (object: KubeObject): unknown[] =>
    printer === undefined
      ? [object.metadata.name, ...columns.map((column) => customCell(column, object))]
      : printer.cells(object);
  const carried = (object: KubeObject): object => {
    if (options.include === 'None') return {};
    if (options.include === 'Object') return { object };
    const apiVersion = `meta.k8s.io/${options.version}`;
    return { object: { kind: 'PartialObjectMetadata', apiVersion, metadata: object.metadata } };
  };
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${options.version}`,
    metadata: { resourceVersion: objects[0]?.metadata.resourceVersion ?? '' },
    columnDefinitions,
    rows: objects.map((object) => ({ cells: cells(object), ...carried(object) })),
  };
}
