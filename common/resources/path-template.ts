// Path templates of AuthorizationPolicy: `{*}` is one segment, `{**}` any number of them, each a whole segment.

const LITERAL = /^[A-Za-z0-9\-._~!$&'()+,;=:@%]*$/;

/** True when the path uses template operators rather than Istio's one-star patterns. */
export function isPathTemplate(path: string): boolean {
  return path.includes('{*}') || path.includes('{**}');
}

/** Why a path is not a valid template; undefined for templates that are and for plain paths. */
export function pathTemplateProblem(path: string): string | undefined {
  if (!isPathTemplate(path)) return undefined;
  if (!path.startsWith('/')) return 'a path template must start with /';
  let hasRest = false;
  for (const segment of path.slice(1).split('/')) {
    if (segment === '{*}' || segment === '{**}') {
      if (hasRest) return 'no operator may follow {**}';
      hasRest = segment === '{**}';
    } else if (!LITERAL.test(segment)) {
      return `segment ${JSON.stringify(segment)} is neither an operator nor literal text`;
    }
  }
  return undefined;
}

/** The RE2 expression, for a full match, of a valid template. */
export function pathTemplateRegex(path: string): string {
  const segments = path.slice(1).split('/');
  return segments
    .map((segment) => {
      if (segment === '{*}') return '/[^/]+';
      // As Envoy's URI template matcher: any text, possibly empty.
      return segment === '{**}' ? '/.*' : `/${escapeRegex(segment)}`;
    })
    .join('');
}

/** Text as a regular expression that matches only it. */
export function escapeRegex(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}
