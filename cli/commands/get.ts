// get: the server's own table, or the objects as JSON or YAML.
import type { Command } from 'commander';
import type { KubeObject } from '../../common/kube/rest-client.ts';
import { clusterCommand, openCluster, outputOption, type GlobalOptions } from '../context.ts';
import { formatTable, formatValue, print, type OutputFormat } from '../output.ts';
import { resourcePath, ResourceMapper, type ResourceKind } from '../resource-mapping.ts';

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';

interface GetOptions extends GlobalOptions {
  readonly allNamespaces?: boolean;
  readonly selector?: string;
  readonly output?: OutputFormat;
}

interface ServerTable {
  readonly columnDefinitions: readonly { readonly name: string; readonly priority?: number }[];
  readonly rows: readonly { readonly cells: readonly unknown[]; readonly object?: KubeObject }[];
}

/** Text of a table the server answered. Columns of a higher priority are for `wide`. */
export function renderServerTable(
  table: ServerTable,
  isWide: boolean,
  withNamespace: boolean,
): string {
  const shown = table.columnDefinitions
    .map((column, index) => ({ ...column, index }))
    .filter((column) => isWide || (column.priority ?? 0) === 0);
  const head = shown.map((column) => column.name.toUpperCase());
  const rows = table.rows.map((row) => [
    ...(withNamespace ? [row.object?.metadata?.namespace ?? ''] : []),
    ...shown.map((column) => cellText(row.cells[column.index])),
  ]);
  return formatTable(withNamespace ? ['NAMESPACE', ...head] : head, rows);
}

function cellText(cell: unknown): string {
  if (cell === null || cell === undefined) return '<none>';
  return typeof cell === 'string' ? cell : JSON.stringify(cell);
}

async function get(words: readonly string[], options: GetOptions): Promise<void> {
  const [type = '', named] = words[0]?.includes('/')
    ? words[0].split('/')
    : [words[0] ?? '', words[1]];
  const client = openCluster(options);
  try {
    const kind = (await ResourceMapper.discover(client)).find(type);
    const all = options.allNamespaces === true;
    const namespace = all ? undefined : (options.namespace ?? 'default');
    const request = {
      path: resourcePath(kind, namespace, named),
      query: options.selector === undefined ? {} : { labelSelector: options.selector },
    };
    if (options.output === 'json' || options.output === 'yaml') {
      print(formatValue(await client.json(request), options.output));
      return;
    }
    const table = await client.json<ServerTable>({ ...request, accept: TABLE });
    if (table.rows.length === 0) {
      process.stderr.write(emptyText(kind, namespace));
      return;
    }
    if (options.output === 'name') {
      for (const row of table.rows) print(`${kind.singular}/${row.object?.metadata?.name ?? ''}`);
      return;
    }
    print(renderServerTable(table, options.output === 'wide', all && kind.isNamespaced));
  } finally {
    client.close();
  }
}

function emptyText(kind: ResourceKind, namespace: string | undefined): string {
  return kind.isNamespaced && namespace !== undefined
    ? `No resources found in ${namespace} namespace.\n`
    : 'No resources found\n';
}

/** The `get` command. */
export function getCommand(): Command {
  return clusterCommand('get', 'show objects: get TYPE [NAME]')
    .argument('<type>', 'resource type, or TYPE/NAME')
    .argument('[name]', 'object name')
    .option('-A, --all-namespaces', 'in all namespaces')
    .option('-l, --selector <selector>', 'label selector')
    .addOption(outputOption(['json', 'yaml', 'wide', 'name']))
    .action((type: string, name: string | undefined, options: GetOptions) =>
      get(name === undefined ? [type] : [type, name], options),
    );
}
