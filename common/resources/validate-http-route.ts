// Checks of HTTPRoute that its CRD schema does not make by itself: regular expressions, headers, filters.
import type { HTTPRoute, HTTPRouteFilter, HTTPRouteMatch } from './gen/gateway_api_pb.ts';
import { durationMs } from './go-duration.ts';
import type { Problems } from './problem.ts';
import { checkHeaderName, checkHeaderValue, checkRegex } from './validate-common.ts';

const PATH_TYPES = ['', 'Exact', 'PathPrefix', 'RegularExpression'];
const VALUE_TYPES = ['', 'Exact', 'RegularExpression'];
const REDIRECT_CODES = [0, 301, 302, 303, 307, 308];

/** Checks an HTTPRoute's spec. */
export function validateHttpRoute(spec: HTTPRoute, problems: Problems): void {
  spec.parentRefs.forEach((parent, index) => {
    const at = problems.at('parentRefs', index);
    at.at('name').check(parent.name !== '', 'must not be empty');
    at.at('port').check(parent.port <= 65535, `${parent.port} is not a port`);
  });
  spec.rules.forEach((rule, index) => {
    const at = problems.at('rules', index);
    rule.matches.forEach((match, place) => validateMatch(match, at.at('matches', place)));
    validateFilters(rule.filters, at.at('filters'));
    const durations = { ...rule.timeouts, backoff: rule.retry?.backoff };
    for (const key of ['request', 'backendRequest', 'backoff'] as const) {
      at.at(key).check(durationMs(durations[key]) >= 0, 'must not be negative');
    }
    rule.backendRefs.forEach((backend, place) => {
      const backendAt = at.at('backendRefs', place);
      backendAt.at('name').check(backend.name !== '', 'must not be empty');
      backendAt.at('weight').check((backend.weight ?? 1) <= 1_000_000, 'must be at most 1000000');
      validateFilters(backend.filters, backendAt.at('filters'));
    });
  });
}

function validateMatch(match: HTTPRouteMatch, problems: Problems): void {
  const { path } = match;
  if (path !== undefined) {
    const at = problems.at('path');
    const value = path.value ?? '/';
    at.at('type').check(PATH_TYPES.includes(path.type), `unknown type ${path.type}`);
    if (path.type === 'RegularExpression') checkRegex(value, at.at('value'));
    else at.at('value').check(value.startsWith('/'), 'must start with /');
  }
  for (const key of ['headers', 'queryParams'] as const) {
    match[key].forEach((entry, index) => {
      const at = problems.at(key, index);
      at.at('type').check(VALUE_TYPES.includes(entry.type), `unknown type ${entry.type}`);
      if (key === 'headers') checkHeaderName(entry.name, at.at('name'));
      if (entry.type === 'RegularExpression') checkRegex(entry.value, at.at('value'));
    });
  }
}

function validateFilters(filters: readonly HTTPRouteFilter[], problems: Problems): void {
  filters.forEach((filter, index) => {
    const at = problems.at(index);
    for (const key of ['requestHeaderModifier', 'responseHeaderModifier'] as const) {
      for (const { name, value } of [...(filter[key]?.set ?? []), ...(filter[key]?.add ?? [])]) {
        checkHeaderName(name, at.at(key));
        checkHeaderValue(value, at.at(key));
      }
      for (const name of filter[key]?.remove ?? []) checkHeaderName(name, at.at(key, 'remove'));
    }
    const code = filter.requestRedirect?.statusCode ?? 0;
    at.at('requestRedirect', 'statusCode').check(REDIRECT_CODES.includes(code), `${code}`);
  });
}
