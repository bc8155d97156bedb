// Istio's validation rules for the parts of VirtualService that are served.
import type {
  Destination,
  HTTPMatchRequest,
  HTTPRoute,
  HTTPRouteDestination,
  Headers,
  RouteDestination,
  StringMatch,
  VirtualService,
} from './gen/virtual_service_pb.ts';
import { isValidHost } from './host-name.ts';
import type { Problems } from './problem.ts';
import {
  checkDuration,
  checkHeaderName,
  checkHeaderValue,
  checkPort,
  checkRegex,
} from './validate-common.ts';
import {
  validateDirectResponse,
  validateFault,
  validateMirrors,
  validateRedirect,
  validateRetries,
  validateRewrite,
} from './validate-http-action.ts';

/** Checks a VirtualService's spec. */
export function validateVirtualService(spec: VirtualService, problems: Problems): void {
  validateHosts(spec, problems);
  const tlsOnly = problems.list.some(({ path }) => path === 'spec.tls');
  const hasRoutes = spec.http.length + spec.tcp.length > 0;
  problems.check(hasRoutes || tlsOnly, 'http or tcp routes are needed');
  const isDelegate = spec.hosts.length === 0;
  problems
    .at('gateways')
    .check(!isDelegate || spec.gateways.length === 0, 'a VirtualService without hosts takes none');
  spec.http.forEach((route, index) => {
    validateHttp(route, problems.at('http', index), isDelegate);
  });
  spec.tcp.forEach((route, index) => {
    const at = problems.at('tcp', index);
    validateDestinations(route.route, at.at('route'));
    at.at('route').check(route.route.length > 0, 'a destination is needed');
  });
}

function validateHosts(spec: VirtualService, problems: Problems): void {
  const isMesh = spec.gateways.length === 0 || spec.gateways.includes('mesh');
  const seen = new Set<string>();
  spec.hosts.forEach((host, index) => {
    const at = problems.at('hosts', index);
    at.check(isValidHost(host), `${JSON.stringify(host)} is not a host name`);
    at.check(host !== '*' || !isMesh, 'a * host is not allowed for the mesh');
    at.check(!seen.has(host), `host ${host} is listed twice`);
    seen.add(host);
  });
}

function validateHttp(route: HTTPRoute, problems: Problems, isDelegate: boolean): void {
  const actions = [
    route.route.length > 0,
    route.redirect !== undefined,
    route.directResponse !== undefined,
    route.delegate !== undefined,
  ].filter(Boolean).length;
  problems.check(
    actions === 1,
    'exactly one of route, redirect, directResponse and delegate is needed',
  );
  problems.at('delegate').check(!isDelegate || route.delegate === undefined, 'must not be nested');
  route.match.forEach((match, index) => validateMatch(match, problems.at('match', index)));
  validateDestinations(route.route, problems.at('route'));
  route.route.forEach(({ headers }, index) =>
    validateHeaders(headers, problems.at('route', index, 'headers')),
  );
  validateHeaders(route.headers, problems.at('headers'));
  checkDuration(route.timeout, problems.at('timeout'));
  if (route.redirect !== undefined) {
    validateRedirect(route.redirect, problems.at('redirect'));
    problems.check(
      route.fault === undefined && route.rewrite === undefined,
      'a redirect cannot be combined with fault or rewrite',
    );
  }
  if (route.directResponse !== undefined) {
    validateDirectResponse(route.directResponse, problems.at('directResponse'));
  }
  if (route.rewrite !== undefined) validateRewrite(route.rewrite, problems.at('rewrite'));
  if (route.retries !== undefined) validateRetries(route.retries, problems.at('retries'));
  if (route.fault !== undefined) validateFault(route.fault, problems.at('fault'));
  validateMirrors(route, problems);
  for (const destination of [route.mirror, ...route.mirrors.map((mirror) => mirror.destination)]) {
    if (destination !== undefined) validateDestination(destination, problems.at('mirror'));
  }
}

function validateMatch(match: HTTPMatchRequest, problems: Problems): void {
  const single = { uri: match.uri, scheme: match.scheme, method: match.method };
  for (const [name, value] of Object.entries({ ...single, authority: match.authority })) {
    validateString(value, problems.at(name), { allowEmpty: false });
  }
  for (const key of ['headers', 'withoutHeaders'] as const) {
    for (const [name, value] of Object.entries(match[key])) {
      const at = problems.at(key, name);
      if (name.startsWith('@request.auth')) at.invalid('claims are matched at gateways only');
      else checkHeaderName(name, at);
      validateString(value, at, { allowEmpty: true });
    }
  }
  for (const [name, value] of Object.entries(match.queryParams)) {
    problems.at('queryParams').check(name !== '', 'a parameter needs a name');
    validateString(value, problems.at('queryParams', name), { allowEmpty: true });
  }
  if (match.port !== 0) checkPort(match.port, problems.at('port'));
}

function validateString(
  match: StringMatch | undefined,
  problems: Problems,
  { allowEmpty }: { readonly allowEmpty: boolean },
): void {
  const kind = match?.matchType;
  if (kind?.case === undefined) return;
  const at = problems.at(kind.case);
  if (kind.value === '' && !allowEmpty) at.invalid('must not be empty');
  // A lone star asks for presence.
  if (kind.case === 'regex' && kind.value !== '*') checkRegex(kind.value, at);
}

function validateDestinations(
  entries: readonly (HTTPRouteDestination | RouteDestination)[],
  problems: Problems,
): void {
  let total = 0;
  entries.forEach((entry, index) => {
    const at = problems.at(index);
    at.at('weight').check(entry.weight >= 0, 'must not be negative');
    total += entry.weight;
    if (entry.destination === undefined) at.at('destination').invalid('is needed');
    else validateDestination(entry.destination, at.at('destination'));
  });
  problems.check(entries.length < 2 || total > 0, 'the weights add up to 0');
}

function validateDestination(destination: Destination, problems: Problems): void {
  const { host, port } = destination;
  const isName = isValidHost(host) && !host.startsWith('*');
  problems.at('host').check(isName, `${JSON.stringify(host)} is not a host name`);
  if (port !== undefined) checkPort(port.number, problems.at('port', 'number'));
}

function validateHeaders(headers: Headers | undefined, problems: Problems): void {
  for (const side of ['request', 'response'] as const) {
    const operations = headers?.[side];
    if (operations === undefined) continue;
    for (const key of ['set', 'add'] as const) {
      for (const [name, value] of Object.entries(operations[key])) {
        const at = problems.at(side, key, name);
        checkHeaderName(name, at, side === 'request' ? [':authority'] : []);
        checkHeaderValue(value, at);
      }
    }
    operations.remove.forEach((name, index) => {
      const at = problems.at(side, 'remove', index);
      checkHeaderName(name, at);
      at.check(name.toLowerCase() !== 'host', 'the host header cannot be removed');
    });
  }
}
