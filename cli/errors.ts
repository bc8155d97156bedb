// What a failed command says and its exit code, in kubectl's words. Never a stack trace.
import { errorMessage, MeshError } from '../common/errors.ts';
import { KubeError } from '../common/kube/client.ts';

/** The line for standard error. */
export function describeError(err: unknown): string {
  if (err instanceof KubeError && err.status !== 0) {
    const reason = err.reason === '' ? String(err.status) : err.reason;
    return `Error from server (${reason}): ${err.answer}`;
  }
  return `error: ${errorMessage(err)}`;
}

/** 2 for a command that was typed wrong, 1 for anything else. */
export function exitCodeOf(err: unknown): number {
  return err instanceof MeshError && err.code === 'usage' ? 2 : 1;
}
