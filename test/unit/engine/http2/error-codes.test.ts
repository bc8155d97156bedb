// How a stream ends by the code of RST_STREAM.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { reasonFromErrorCode } from '../../../../engine/http2/error-codes.ts';

describe('RST_STREAM', () => {
  const rows: readonly (readonly [string, number, boolean, boolean, string])[] = [
    ['NO_ERROR after both ends is the end', 0, true, false, 'ok'],
    ['NO_ERROR before is a reset', 0, false, false, 'reset'],
    ['CANCEL is a reset', 8, false, false, 'reset'],
    ['STREAM_CLOSED is a reset', 5, false, false, 'reset'],
    ['REFUSED_STREAM is a refusal', 7, false, false, 'refused'],
    ['REFUSED_STREAM after GOAWAY is the end of the connection', 7, false, true, 'goaway'],
    ['INTERNAL_ERROR is an error', 2, false, false, 'protocol'],
    ['PROTOCOL_ERROR is an error, whatever came before', 1, true, false, 'protocol'],
  ];
  for (const [claim, code, isComplete, isGoaway, wanted] of rows) {
    it(claim, () => assert.equal(reasonFromErrorCode(code, isComplete, isGoaway).code, wanted));
  }
});
