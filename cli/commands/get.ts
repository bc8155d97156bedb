// get: the server's own table, or the objects as JSON or YAML.
import type { Command } from 'commander';
import { MeshError } from '../../common/errors.ts';
import type { KubeList, KubeRequest } from '../../common/kube/client.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import {
  clusterCommand,
  outputOption,
  withCluster,
  type Cluster,
  type GlobalOptions,
} from '../context.ts';
import { formatTable, formatValue, print, type OutputFormat } from '../output.ts';
import { displayName, resourcePath, ResourceMapper, type ServedKind } from '../resource-mapping.ts';

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';

interface GetOptions extends GlobalOptions {
  readonly allNamespaces?: boolean;
  readonly selector?: string;
  readonly output?: OutputFormat;
  readonly showLabels: boolean;
}

/** Objects of one kind: those named, or all. */
interface Query {
  readonly kind: ServedKind;
  readonly names: readonly string[];
}

interface ServerTable {
  readonly columnDefinitions: readonly { readonly name: string; readonly priority?: number }[];
  readonly rows: readonly { readonly cells: readonly unknown[]; readonly object?: KubeObject }[];
}

/** Which columns of a table to show besides its own. */
export interface TableOptions {
  readonly isWide: boolean;
  readonly withNamespace: boolean;
  readonly withLabels: boolean;
}

/** Text of a table the server answered. Columns of a higher priority are for `wide`. */
export function renderServerTable(table: ServerTable, options: TableOptions): string {
  const shown = table.columnDefinitions
    .map((column, index) => ({ ...column, index }))
    .filter((column) => options.isWide || (column.priority ?? 0) === 0);
  const rows = table.rows.map((row) => [
    ...(options.withNamespace ? [row.object?.metadata?.namespace ?? ''] : []),
    ...shown.map((column) => cellText(row.cells[column.index])),
    ...(options.withLabels ? [labelText(row.object?.metadata?.labels)] : []),
  ]);
  const head = [
    ...(options.withNamespace ? ['NAMESPACE'] : []),
    ...shown.map((column) => column.name.toUpperCase()),
    ...(options.withLabels ? ['LABELS'] : []),
  ];
  return formatTable(head, rows);
}

function labelText(labels: Readonly<Record<string, string>> = {}): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? '<none>' : pairs.join(',');
}

function cellText(cell: unknown): string {
  if (cell === null || cell === undefined) return '<none>';
  return typeof cell === 'string' ? cell : JSON.stringify(cell);
}

/** What is asked for: TYPE[,TYPE], TYPE NAME..., or TYPE/NAME... */
export function parseQueries(
  words: readonly string[],
  find: (word: string) => ServedKind,
): Query[] {
  if (words.some((word) => word.includes('/'))) {
    return words.map((word) => {
      const [type = '', name] = word.split('/');
      if (name === undefined || name === '')
        throw new MeshError('usage', `"${word}" is no TYPE/NAME; the other words are`);
      return { kind: find(type), names: [name] };
    });
  }
  const [types = '', ...names] = words;
  return types.split(',').map((type) => ({ kind: find(type), names }));
}

function isObjects(format: OutputFormat | undefined): format is 'json' | 'yaml' {
  return format === 'json' || format === 'yaml';
}

/** Paths to ask for a query: one for each name, or the collection. */
function paths({ kind, names }: Query, namespace: string | undefined): string[] {
  if (names.length === 0) return [resourcePath(kind, namespace)];
  return names.map((name) => resourcePath(kind, namespace, name));
}

async function printObjects(
  { client }: Cluster,
  requests: readonly KubeRequest[],
  format: 'json' | 'yaml',
): Promise<void> {
  const answers = await Promise.all(
    requests.map((request) => client.json<KubeList<KubeObject> & KubeObject>(request)),
  );
  const [only] = answers;
  const items = answers.flatMap((answer) => answer.items ?? [answer]);
  const isOne = answers.length === 1 && only?.items === undefined;
  print(formatValue(isOne ? only : { apiVersion: 'v1', kind: 'List', items }, format));
}

async function get(words: readonly string[], options: GetOptions): Promise<void> {
  await withCluster(options, async (cluster) => {
    const mapper = await ResourceMapper.discover(cluster.client);
    const queries = parseQueries(words, (word) => mapper.find(word));
    const all = options.allNamespaces === true;
    if (all && queries.some(({ names }) => names.length > 0)) {
      throw new MeshError('usage', 'a resource cannot be retrieved by name across all namespaces');
    }
    const namespace = all ? undefined : cluster.namespace;
    const query = { labelSelector: options.selector };
    const requestsOf = (each: Query): KubeRequest[] =>
      paths(each, namespace).map((path) => ({ path, query }));
    if (isObjects(options.output)) {
      await printObjects(cluster, queries.flatMap(requestsOf), options.output);
      return;
    }
    let printed = 0;
    for (const each of queries) {
      const table = await fetchTable(cluster, requestsOf(each));
      if (table.rows.length === 0) continue;
      if (printed > 0 && options.output !== 'name') print('');
      printed += 1;
      printRows(each.kind, table, { ...options, withNamespace: all && each.kind.isNamespaced });
    }
    if (printed === 0) process.stderr.write(emptyText(queries[0]?.kind, namespace));
  });
}

async function fetchTable(
  { client }: Cluster,
  requests: readonly KubeRequest[],
): Promise<ServerTable> {
  const tables = await Promise.all(
    requests.map((request) => client.json<ServerTable>({ ...request, accept: TABLE })),
  );
  return {
    columnDefinitions: tables[0]?.columnDefinitions ?? [],
    rows: tables.flatMap(({ rows = [] }) => rows),
  };
}

function printRows(
  kind: ServedKind,
  table: ServerTable,
  options: GetOptions & { readonly withNamespace: boolean },
): void {
  if (options.output === 'name') {
    for (const row of table.rows) print(displayName(kind, row.object?.metadata?.name ?? ''));
    return;
  }
  print(
    renderServerTable(table, {
      isWide: options.output === 'wide',
      withNamespace: options.withNamespace,
      withLabels: options.showLabels,
    }),
  );
}

function emptyText(kind: ServedKind | undefined, namespace: string | undefined): string {
  return kind?.isNamespaced === true && namespace !== undefined
    ? `No resources found in ${namespace} namespace.\n`
    : 'No resources found\n';
}

/** The `get` command. */
export function getCommand(): Command {
  return clusterCommand('get', 'show objects: get TYPE[,TYPE] [NAME...] or TYPE/NAME...')
    .argument('<words...>', 'resource types, then names')
    .option('-A, --all-namespaces', 'in all namespaces')
    .option('-l, --selector <selector>', 'label selector')
    .option('--show-labels', 'labels as the last column', false)
    .addOption(outputOption(['json', 'yaml', 'wide', 'name']))
    .action(get);
}
