// When a try is made again.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { RetryPolicySchema } from '../../../../common/l7/gen/l7_pb.ts';
import { backoffMs, compileRetry, isRetriable } from '../../../../common/l7/retry.ts';
import type { CompiledRetry, TryOutcome } from '../../../../common/l7/retry.ts';

function retry(...retryOn: string[]): CompiledRetry {
  const compiled = compileRetry(create(RetryPolicySchema, { attempts: 2, retryOn }));
  assert.ok(compiled);
  return compiled;
}

const response = (status: number, grpcStatus?: number): TryOutcome => ({
  kind: 'response',
  status,
  grpcStatus,
});

describe('isRetriable', () => {
  const reset: TryOutcome = { kind: 'reset', wasReused: false };
  const rows: [words: string[], outcome: TryOutcome, expected: boolean][] = [
    [['connect-failure'], { kind: 'connect-failure' }, true],
    [['connect-failure'], reset, false],
    [['connect-failure'], response(503), false],
    [['refused-stream'], { kind: 'refused' }, true],
    [['reset'], reset, true],
    [['5xx'], response(500), true],
    [['5xx'], response(404), false],
    [['5xx'], { kind: 'connect-failure' }, true],
    [['5xx'], { kind: 'per-try-timeout' }, true],
    [['gateway-error'], response(502), true],
    [['gateway-error'], response(500), false],
    [['retriable-4xx'], response(409), true],
    [['503'], response(503), true],
    [['unavailable'], response(200, 14), true],
    [['cancelled'], response(200, 14), false],
    [['no-such-word'], response(500), false],
  ];
  for (const [words, outcome, expected] of rows) {
    it(`${words.join()} on ${JSON.stringify(outcome)}: ${expected}`, () => {
      assert.equal(isRetriable(retry(...words), outcome), expected);
    });
  }

  it('is off with no attempts', () => {
    assert.equal(compileRetry(create(RetryPolicySchema, { retryOn: ['5xx'] })), undefined);
  });
});

describe('backoffMs', () => {
  it('grows from the base and is bounded by ten times of it', () => {
    const policy = retry('5xx');
    assert.equal(
      backoffMs(policy, 1, () => 0.999),
      24,
    );
    assert.equal(
      backoffMs(policy, 2, () => 0.999),
      74,
    );
    assert.equal(
      backoffMs(policy, 10, () => 0.999),
      249,
    );
    assert.equal(
      backoffMs(policy, 1, () => 0),
      1,
    );
  });
});
