// Where the local cluster of a clone keeps its state and its kubeconfig: `.ambient`, or `.ambient-UID` where that
// belongs to another user, so that a run by root and one by an ordinary user do not trip over each other's files.
import { accessSync, constants, lstatSync } from 'node:fs';
import { join } from 'node:path';

const NAME = '.ambient';

/** The state directory of this user in a clone; it need not exist. */
export function stateDirOf(clone: string, uid: number): string {
  const dir = join(clone, NAME);
  try {
    if (lstatSync(dir).uid !== uid) return `${dir}-${uid}`;
  } catch {
    // It does not exist yet.
  }
  return dir;
}

/** The kubeconfig of a cluster that runs in a clone: this user's own, else one this user may read; or undefined. */
export function localKubeconfig(clone: string, uid: number): string | undefined {
  return [stateDirOf(clone, uid), join(clone, NAME)]
    .map((dir) => join(dir, 'kubeconfig'))
    .find((path) => {
      try {
        accessSync(path, constants.R_OK);
        return true;
      } catch {
        return false;
      }
    });
}
