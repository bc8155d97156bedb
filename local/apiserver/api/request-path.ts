// What a URL path asks for (https://kubernetes.io/docs/reference/using-api/api-concepts/, "Resource URIs").

export interface ResourcePath {
  readonly group: string;
  readonly version: string;
  readonly namespace: string | undefined;
  readonly resource: string;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  /** What follows a subresource, for `proxy`. */
  readonly rest: string;
}

/** Decodes `/api/v1/...` and `/apis/GROUP/VERSION/...` below the version; undefined for other paths. */
export function parseResourcePath(pathname: string): ResourcePath | undefined {
  const parts = pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodePart);
  const [root] = parts;
  if (root !== 'api' && root !== 'apis') return undefined;
  const group = root === 'api' ? '' : (parts[1] ?? '');
  const version = root === 'api' ? parts[1] : parts[2];
  const tail = parts.slice(root === 'api' ? 2 : 3);
  if (version === undefined || tail.length === 0) return undefined;
  const [first = '', namespace, resource] = tail;
  if (first === 'namespaces' && namespace !== undefined && resource !== undefined) {
    // `/namespaces/NAME/status` is a subresource of the namespace, not a resource in it.
    if (!['status', 'finalize'].includes(resource) || tail.length > 3) {
      return make(group, version, namespace, tail.slice(2));
    }
  }
  return make(group, version, undefined, tail);
}

function make(
  group: string,
  version: string,
  namespace: string | undefined,
  tail: readonly string[],
): ResourcePath {
  const [resource = '', name, subresource, ...rest] = tail;
  return { group, version, namespace, resource, name, subresource, rest: rest.join('/') };
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
