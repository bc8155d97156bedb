// The graph of services as columns and rows: callers left of what they call, links over several columns led through
// free rows, rows ordered so that few links cross. Pure; units are columns and rows, the page makes pixels of them.

/** A pair with traffic. */
export interface GraphEdge {
  readonly source: string;
  readonly destination: string;
}

/** A place in columns (from 0) and rows (around 0). */
export interface Place {
  readonly column: number;
  readonly row: number;
}

export interface GraphLink extends GraphEdge {
  /** From source to destination, one place for each column between. */
  readonly places: readonly Place[];
  /** Which of the edges given it stands for. */
  readonly edges: readonly number[];
}

export interface Graph {
  readonly columns: number;
  readonly rows: number;
  readonly nodes: readonly (Place & { readonly name: string })[];
  readonly links: readonly GraphLink[];
}

const SWEEPS = 4;

/** Workloads called `reviews-v1` and the service `reviews` are one node: the graph is of services. */
function serviceOf(name: string, services: ReadonlySet<string>): string {
  if (services.has(name)) return name;
  const found = [...services].filter((service) => name.startsWith(`${service}-`));
  return found.toSorted((a, b) => b.length - a.length)[0] ?? name;
}

interface Link extends GraphEdge {
  readonly edges: number[];
}

function mergeEdges(edges: readonly GraphEdge[]): Link[] {
  const services = new Set(edges.map(({ destination }) => destination));
  const links = new Map<string, Link>();
  edges.forEach((edge, index) => {
    const source = serviceOf(edge.source, services);
    const destination = serviceOf(edge.destination, services);
    if (source === destination) return;
    const key = `${source} ${destination}`;
    const link = links.get(key) ?? { source, destination, edges: [] };
    link.edges.push(index);
    links.set(key, link);
  });
  return [...links.values()];
}

/** Column of each node: one more than its deepest caller; cycles are cut where they are met. */
function columnsOf(links: readonly GraphEdge[]): Map<string, number> {
  const callers = new Map<string, Set<string>>();
  const callersOf = (name: string): Set<string> => {
    const known = callers.get(name) ?? new Set<string>();
    callers.set(name, known);
    return known;
  };
  for (const { source, destination } of links) {
    callersOf(source);
    callersOf(destination).add(source);
  }
  const columns = new Map<string, number>();
  const visit = (name: string, path: Set<string>): number => {
    const known = columns.get(name);
    if (known !== undefined) return known;
    path.add(name);
    const depths = [...callersOf(name)]
      .filter((caller) => !path.has(caller))
      .map((caller) => visit(caller, path) + 1);
    path.delete(name);
    const column = Math.max(0, ...depths);
    columns.set(name, column);
    return column;
  };
  for (const name of [...callers.keys()].toSorted()) visit(name, new Set());
  return columns;
}

/** A link as the slots it goes through: its ends and a slot of its own in each column between. */
function slotsOf(
  { source, destination }: GraphEdge,
  columns: ReadonlyMap<string, number>,
): string[] {
  const [from = 0, to = 0] = [columns.get(source), columns.get(destination)];
  const between = Math.max(0, to - from - 1);
  const own = Array.from({ length: between }, (_, n) => `${source} ${destination} ${from + n + 1}`);
  return [source, ...own, destination];
}

const rowOf = (column: readonly string[], index: number): number => index - (column.length - 1) / 2;

/** Orders each column by where its neighbours are, to and fro. */
function orderRows(
  columns: string[][],
  chains: readonly (readonly string[])[],
): Map<string, number> {
  const rows = new Map<string, number>();
  const number = (column: readonly string[]): void => {
    column.forEach((slot, index) => rows.set(slot, rowOf(column, index)));
  };
  columns.forEach(number);
  const neighbours = (slot: string, step: number): number[] =>
    chains.flatMap((chain) => {
      const at = chain.indexOf(slot);
      const next = at < 0 ? undefined : chain[at + step];
      return next === undefined ? [] : [rows.get(next) ?? 0];
    });
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const step = sweep % 2 === 0 ? -1 : 1;
    for (const column of step < 0 ? columns : columns.toReversed()) {
      const wish = new Map(
        column.map((slot) => {
          const near = neighbours(slot, step);
          const mean = near.reduce((total, row) => total + row, 0) / near.length;
          return [slot, near.length === 0 ? (rows.get(slot) ?? 0) : mean];
        }),
      );
      column.sort((a, b) => (wish.get(a) ?? 0) - (wish.get(b) ?? 0));
      number(column);
    }
  }
  return rows;
}

/** Lays out the pairs with traffic. */
export function layOutGraph(edges: readonly GraphEdge[]): Graph {
  const merged = mergeEdges(edges);
  const columnOf = columnsOf(merged);
  const columns: string[][] = [];
  const at = new Map<string, number>();
  const put = (slot: string, column: number): void => {
    if (at.has(slot)) return;
    at.set(slot, column);
    (columns[column] ??= []).push(slot);
  };
  for (const [name, column] of [...columnOf].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    put(name, column);
  }
  const chains = merged.map((link) => slotsOf(link, columnOf));
  for (const chain of chains) {
    const from = at.get(chain[0] ?? '') ?? 0;
    chain.slice(1, -1).forEach((slot, index) => put(slot, from + 1 + index));
  }
  const rows = orderRows(columns, chains);
  const placeOf = (slot: string): Place => ({
    column: at.get(slot) ?? 0,
    row: rows.get(slot) ?? 0,
  });
  return {
    columns: columns.length,
    rows: Math.max(0, ...columns.map(({ length }) => length)),
    nodes: [...columnOf.keys()].map((name) => ({ name, ...placeOf(name) })),
    links: merged.map((link, index) => ({ ...link, places: (chains[index] ?? []).map(placeOf) })),
  };
}
