// The names a query may mean: as asked, completed to a Kubernetes name, and with a search domain taken off, since
// the asker's resolver has put one on, as Istio's ztunnel does. Pure; names are lower case without last dot.

/** One meaning of the asked name. */
export interface Alias {
  readonly name: string;
  /** The asked name without a search domain, when this alias comes from it. */
  readonly stripped: string | undefined;
}

/** All meanings, the most literal first, each once. `searchDomains` are the asker's, longest first. */
export function aliasesOf(
  asked: string,
  namespace: string,
  domain: string,
  searchDomains: readonly string[],
): Alias[] {
  const found = new Map<string, Alias>();
  const add = (name: string, stripped: string | undefined): void => {
    if (!found.has(name)) found.set(name, { name, stripped });
  };
  add(asked, undefined);
  for (const name of completions(asked, namespace, domain)) add(name, undefined);
  for (const search of searchDomains) {
    if (search === '' || !asked.endsWith(`.${search}`)) continue;
    const stripped = asked.slice(0, -search.length - 1);
    add(stripped, stripped);
    for (const name of completions(stripped, namespace, domain)) add(name, stripped);
  }
  return [...found.values()];
}

/** The search domains Kubernetes gives a pod. */
export function podSearchDomains(namespace: string, domain: string): string[] {
  return [`${namespace}.svc.${domain}`, `svc.${domain}`, domain];
}

/** `a.b.c` is matched by `*.b.c` and `*.c`. */
export function wildcardsOf(name: string): string[] {
  const wildcards: string[] = [];
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
    wildcards.push(`*${name.slice(dot)}`);
  }
  return wildcards;
}

/** A short Kubernetes name in full: `web`, `web.shop`, `web.shop.svc`. */
function completions(name: string, namespace: string, domain: string): string[] {
  const labels = name.split('.');
  const isService = labels.at(-1) === 'svc';
  switch (labels.length) {
    case 1:
      return [`${name}.${namespace}.svc.${domain}`];
    case 2:
      return [`${name}.svc.${domain}`, `${name}.${namespace}.svc.${domain}`];
    case 3:
      return [...(isService ? [`${name}.${domain}`] : []), `${name}.svc.${domain}`];
    case 4:
      return isService ? [`${name}.${domain}`] : [];
    default:
      return [];
  }
}
