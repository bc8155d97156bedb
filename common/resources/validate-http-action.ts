// Validation of what a VirtualService route does: redirect, rewrite, direct response, retries, faults, mirrors.
import type {
  HTTPDirectResponse,
  HTTPFaultInjection,
  HTTPRedirect,
  HTTPRetry,
  HTTPRewrite,
  HTTPRoute,
} from './gen/virtual_service_pb.ts';
import { grpcStatusCode } from './grpc-status.ts';
import { durationMs } from './go-duration.ts';
import type { Problems } from './problem.ts';
import { checkDuration, checkPercent, checkPort, checkRegex } from './validate-common.ts';

const REDIRECT_CODES = [0, 301, 302, 303, 307, 308];
const MAX_BODY_BYTES = 1024 * 1024;
const RETRY_WORDS = [
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'envoy-ratelimited',
  'retriable-4xx',
  'refused-stream',
  'retriable-status-codes',
  'retriable-headers',
  'http3-post-connect-failure',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
];

export function validateRedirect(redirect: HTTPRedirect, problems: Problems): void {
  const { uri, authority, scheme, redirectCode, redirectPort } = redirect;
  const says = uri !== '' || authority !== '' || scheme !== '' || redirectPort.case !== undefined;
  problems.check(says, 'one of uri, authority, port, derivePort and scheme is needed');
  const isCode = REDIRECT_CODES.includes(redirectCode);
  problems.at('redirectCode').check(isCode, 'must be 301, 302, 303, 307 or 308');
  if (redirectPort.case === 'port') checkPort(redirectPort.value, problems.at('port'));
}

export function validateDirectResponse(response: HTTPDirectResponse, problems: Problems): void {
  const { status, body } = response;
  problems.at('status').check(status >= 200 && status <= 599, 'must be from 200 to 599');
  const size = body?.specifier.value?.length ?? 0;
  problems.at('body').check(size <= MAX_BODY_BYTES, 'must be at most 1 MiB');
}

export function validateRewrite(rewrite: HTTPRewrite, problems: Problems): void {
  const { uri, authority, uriRegexRewrite } = rewrite;
  const says = uri !== '' || authority !== '' || uriRegexRewrite !== undefined;
  problems.check(says, 'one of uri, authority and uriRegexRewrite is needed');
  problems.check(
    uri === '' || uriRegexRewrite === undefined,
    'uri and uriRegexRewrite cannot be combined',
  );
  if (uriRegexRewrite === undefined) return;
  const at = problems.at('uriRegexRewrite', 'match');
  at.check(uriRegexRewrite.match !== '', 'must not be empty');
  checkRegex(uriRegexRewrite.match, at);
}

export function validateRetries(retries: HTTPRetry, problems: Problems): void {
  const { attempts, perTryTimeout, retryOn, backoff } = retries;
  problems.at('attempts').check(attempts >= 0, 'must not be negative');
  checkDuration(perTryTimeout, problems.at('perTryTimeout'));
  checkDuration(backoff, problems.at('backoff'));
  const says = perTryTimeout !== undefined || retryOn !== '';
  problems.check(attempts > 0 || !says, 'perTryTimeout and retryOn need attempts above 0');
  for (const word of retryOn.split(',').map((part) => part.trim())) {
    const isKnown = word === '' || /^[1-5]\d\d$/.test(word) || RETRY_WORDS.includes(word);
    problems.at('retryOn').check(isKnown, `unknown condition ${JSON.stringify(word)}`);
  }
}

export function validateFault(fault: HTTPFaultInjection, problems: Problems): void {
  const { delay, abort } = fault;
  problems.check(delay !== undefined || abort !== undefined, 'delay or abort is needed');
  if (delay !== undefined) {
    const at = problems.at('delay');
    at.at('fixedDelay').check(durationMs(delay.fixedDelay) >= 1, 'must be at least 1ms');
    checkPercent(delay.percentage?.value, at.at('percentage', 'value'));
    checkPercent(delay.percent, at.at('percent'));
  }
  if (abort === undefined) return;
  const at = problems.at('abort');
  checkPercent(abort.percentage?.value, at.at('percentage', 'value'));
  const { case: kind, value } = abort.errorType;
  if (kind === undefined) at.invalid('httpStatus or grpcStatus is needed');
  if (kind === 'httpStatus') {
    at.at('httpStatus').check(value >= 200 && value <= 599, 'must be from 200 to 599');
  }
  if (kind === 'grpcStatus') {
    const isKnown = grpcStatusCode(value) !== undefined;
    at.at('grpcStatus').check(isKnown, `unknown status ${JSON.stringify(value)}`);
  }
}

export function validateMirrors(route: HTTPRoute, problems: Problems): void {
  const both = route.mirror !== undefined && route.mirrors.length > 0;
  problems.check(!both, 'mirror and mirrors cannot be combined');
  checkPercent(route.mirrorPercent, problems.at('mirrorPercent'));
  checkPercent(route.mirrorPercentage?.value, problems.at('mirrorPercentage', 'value'));
  route.mirrors.forEach((mirror, index) => {
    const at = problems.at('mirrors', index);
    at.at('destination').check(mirror.destination !== undefined, 'is needed');
    checkPercent(mirror.percentage?.value, at.at('percentage', 'value'));
  });
}
