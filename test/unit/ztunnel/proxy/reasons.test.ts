// The lists for people and the lists in code are the same.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import {
  REJECTION_REASONS,
  REVOKED_DETAIL,
  rejectionReason,
} from '../../../../common/hbone/rejection.ts';
import type { TunnelFailure } from '../../../../common/hbone/types.ts';
import { StreamError } from '../../../../engine/reactor/stream-error.ts';
import { describeTunnelFailure, TunnelError } from '../../../../ztunnel/proxy/failures.ts';
import { REASON_FLAGS } from '../../../../ztunnel/proxy/reasons.ts';

/** The table rows under a heading of docs/errors.md. */
function rowsOf(heading: string): string[] {
  const text = readFileSync('docs/errors.md', 'utf8').split(`\n## ${heading}\n`)[1] ?? '';
  return (text.split('\n## ')[0] ?? '').split('\n').filter((line) => line.startsWith('| `'));
}

it('docs/errors.md lists every reason of the node proxy with its flag', () => {
  const rows = rowsOf('Node proxy').map((row) => /^\| `([a-z0-9_]+)` \| (\S+) \|/.exec(row) ?? []);
  assert.deepEqual(
    Object.fromEntries(rows.map(([, reason = '', flag]) => [reason, flag])),
    REASON_FLAGS,
  );
});

it('docs/errors.md lists every reason of a connection that a waypoint refuses before a tunnel', () => {
  const rows = rowsOf('Waypoint: before a tunnel').map((row) => row.split('`')[1]);
  assert.deepEqual(rows, REJECTION_REASONS);
  for (const reason of REJECTION_REASONS) assert.ok(reason in REASON_FLAGS);
});

it('tells a peer refused for its names from a failed handshake', () => {
  const rows = [
    ['tls', 'peer refused: no identity of trust domain cluster.local', 'identity_mismatch'],
    ['tls', 'handshake: certificate has expired', 'tls_failure'],
    ['timeout', 'tls handshake timed out', 'handshake_timeout'],
    ['limit', 'too many connections', 'limit_exceeded'],
    ['protocol', 'peer broke http/2', 'h2_failure'],
    ['reset', 'handshake: connection ended without close_notify', 'io_error'],
  ] as const;
  for (const [code, detail, word] of rows) assert.equal(rejectionReason({ code, detail }), word);
});

it('a failed dial has Istio’s flag, by its kind', () => {
  const tunnel = (code: TunnelFailure['code'], detail = ''): Error =>
    new TunnelError({ code, detail, ...(code === 'status' ? { status: 503 } : {}) });
  const rows: readonly [err: Error, flag: string][] = [
    [tunnel('connect'), 'CONNECT'],
    [tunnel('status'), 'CONNECT'],
    [tunnel('timeout'), 'NETWORK_POLICY'],
    [tunnel('tls'), 'TLS_FAILURE'],
    [tunnel('h2'), 'H2_HANDSHAKE_FAILURE'],
    [tunnel('identity'), 'IDENTITY_ERROR'],
    [tunnel('certificate'), 'IDENTITY_ERROR'],
    [tunnel('tls', REVOKED_DETAIL), 'CERT_REVOKED'],
    [new StreamError('timeout', ''), 'CONNECT'],
    [new StreamError('refused', ''), 'CONNECT'],
    [new Error('anything else'), 'CONNECT'],
  ];
  for (const [err, flag] of rows)
    assert.equal(REASON_FLAGS[describeTunnelFailure(err).reason], flag, err.message);
});
