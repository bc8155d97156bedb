// The node's CNI configuration as text: puts our entry at the end of the primary's chain, or takes it out. Pure.

export const PLUGIN_TYPE = 'istio-cni';

type Entry = Readonly<Record<string, unknown>>;

interface ConfList {
  readonly plugins: readonly Entry[];
  readonly [key: string]: unknown;
}

function parse(text: string): ConfList | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const conf = value as Partial<ConfList> & { readonly type?: unknown };
  if (Array.isArray(conf.plugins))
    return conf.plugins.length === 0 ? undefined : (value as ConfList);
  if (typeof conf.type !== 'string') return undefined;
  return { name: 'k8s-pod-network', cniVersion: '0.3.1', plugins: [value as Entry] };
}

/** Whether this is a usable network configuration. */
export function isConfig(text: string): boolean {
  return parse(text) !== undefined;
}

function format(list: ConfList): string {
  return JSON.stringify(list, null, 2) + '\n';
}

/** The configuration with our entry last; undefined when the text is not a configuration. */
export function chainEntry(text: string, entry: Entry): string | undefined {
  const list = parse(text);
  if (list === undefined) return undefined;
  const others = list.plugins.filter(({ type }) => type !== PLUGIN_TYPE);
  return format({ ...list, plugins: [...others, entry] });
}

/** The configuration without our entry. */
export function unchainEntry(text: string): string | undefined {
  const list = parse(text);
  if (list === undefined) return undefined;
  return format({ ...list, plugins: list.plugins.filter(({ type }) => type !== PLUGIN_TYPE) });
}
