// The flags of `npm start`, and the state directory they lead to.
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { usageError } from '../common/command-line.ts';
import { errorMessage, MeshError } from '../common/errors.ts';
import { stateDirOf } from '../common/kube/local-state.ts';

export const REPOSITORY = join(import.meta.dirname, '..');

export const HELP = `npm start -- [options]: the mesh and a sample application on this machine.

  --empty          start the cluster and the mesh without the sample
  --check          start, verify what the mesh promises, one line for each statement, stop; exit 0 or 1
  --only A,B       with --check: only the statements whose names begin so
  --no-install     do not install missing system packages, only say which
  --api-port N     port of the Kubernetes API on 127.0.0.1 (default 16443, or a free one)
  --ui-port N      port of the dashboard on 127.0.0.1 (default 15080, or a free one)
  --state DIR      state, logs and kubeconfig (default .ambient)
  --help

Without root it runs in a user namespace of its own. Ctrl-C stops everything.`;

export interface StartOptions {
  readonly isEmpty: boolean;
  readonly isCheck: boolean;
  readonly only: readonly string[];
  readonly mayInstall: boolean;
  readonly apiPort: number;
  readonly uiPort: number;
  readonly stateDir: string;
  /** Set in the process that was started again inside a user namespace; its listeners are inherited. */
  readonly isInner: boolean;
}

function parsePort(name: string, text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(port >= 0 && port <= 65_535)) {
    throw usageError(`--${name} must be a port, not "${text}"`);
  }
  return port;
}

/**
 * Makes the state directory and an empty folder of logs; those of the run before are kept beside it. Tokens and keys of
 * pods are in its volumes: it is for its owner alone, whatever the modes of the files are.
 */
export function makeStateDir(dir: string): void {
  const logs = join(dir, 'logs');
  try {
    mkdirSync(dir, { recursive: true });
    chmodSync(dir, 0o700);
    rmSync(`${logs}.previous`, { recursive: true, force: true });
    if (existsSync(logs)) renameSync(logs, `${logs}.previous`);
    mkdirSync(logs);
  } catch (err) {
    const reason = errorMessage(err);
    throw new MeshError('no_state', `cannot keep state in ${dir} (${reason}): name a --state DIR`);
  }
}

/** Parses the command line; undefined asks for the help text. */
export function parseOptions(args: readonly string[], uid: number): StartOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      empty: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      'no-install': { type: 'boolean', default: false },
      'api-port': { type: 'string', default: '16443' },
      'ui-port': { type: 'string', default: '15080' },
      state: { type: 'string' },
      inner: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  if (values.empty && values.check) {
    throw usageError('--check needs the sample: leave --empty out');
  }
  return {
    isEmpty: values.empty,
    isCheck: values.check,
    only: values.only.split(',').filter((name) => name !== ''),
    mayInstall: !values['no-install'],
    apiPort: parsePort('api-port', values['api-port']),
    uiPort: parsePort('ui-port', values['ui-port']),
    stateDir: values.state === undefined ? stateDirOf(REPOSITORY, uid) : resolve(values.state),
    isInner: values.inner,
  };
}
