// The file of CRL_PATH, read now and after each change. One that is empty, or was never there, revokes nothing. One
// that has gone or cannot be read as lists leaves the lists before in force; at the start there are none, and then no
// peer is trusted until it is mended (Istio's ztunnel goes on without checking).
import { existsSync, readFileSync } from 'node:fs';
import { errorMessage } from '../errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import { countRevocationLists } from '../../engine/tls/revocation.ts';
import { watchFile } from '../identity/watch-file.ts';

/** Revocation lists: off, lists in PEM, or lists that cannot be read, with which no peer is trusted. */
export type Revocations =
  | { readonly kind: 'off' }
  | { readonly kind: 'lists'; readonly pem: string }
  | { readonly kind: 'unreadable'; readonly problem: string };

/** Watches a file; see {@link watchRevocations}. */
export interface RevocationWatch {
  /** For people; undefined when the file is well. */
  problem(): string | undefined;
  close(): void;
}

/** Tells the lists now, before it returns, and after each change. */
export function watchRevocations(
  path: string,
  logger: Logger,
  onChange: (revocations: Revocations) => void,
): RevocationWatch {
  let problem: string | undefined;
  let wasThere = false;
  const read = (isStart: boolean): void => {
    const found = readRevocations(path, !wasThere);
    wasThere ||= existsSync(path);
    problem = found.kind === 'unreadable' ? found.problem : undefined;
    if (found.kind === 'unreadable') {
      logger.error({ path, err: found.problem, isStart }, 'revocation lists cannot be read');
      if (isStart) onChange(found);
      return;
    }
    logger.info({ path }, 'revocation lists are in force');
    onChange(found);
  };
  // Watched before it is read: no change in between is missed.
  const close = watchFile(path, () => read(false));
  read(true);
  return { problem: () => problem, close };
}

/** Reads the file. Lists that were there and have gone are not lists that revoke nobody. */
export function readRevocations(path: string, mayBeMissing = true): Revocations {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (err) {
    const isMissing = err instanceof Error && 'code' in err && err.code === 'ENOENT';
    if (isMissing && mayBeMissing) return { kind: 'lists', pem: '' };
    return { kind: 'unreadable', problem: `${path}: ${errorMessage(err)}` };
  }
  const text = bytes.toString('latin1');
  if (text.trim() === '') return { kind: 'lists', pem: '' };
  const blocks = text.match(/-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g) ?? [];
  const pem = blocks.length > 0 ? `${blocks.join('\n')}\n` : pemOf(bytes);
  // A list without its end, as of a file that is still being written, is not left out silently.
  const isWhole = text.split('-----BEGIN X509 CRL-----').length - 1 <= blocks.length;
  if (isWhole && countRevocationLists(pem) === Math.max(1, blocks.length))
    return { kind: 'lists', pem };
  return { kind: 'unreadable', problem: `${path}: not certificate revocation lists` };
}

function pemOf(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN X509 CRL-----\n${lines.join('\n')}\n-----END X509 CRL-----\n`;
}
