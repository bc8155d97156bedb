// What LOCAL_XDS_PATH or LOCAL_XDS gives: loaded at the start, and a file again whenever it changes (Istio's is read once);
// shown by config_dump.
import { errorMessage } from '../../common/errors.ts';
import { watchFile } from '../../common/identity/watch-file.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { parseLocalState, readLocalState } from '../../common/workload/local-file.ts';
import type { LocalState } from '../../common/workload/local-file.ts';
import { serviceKey } from '../../common/workload/model.ts';
import type { Config } from '../config.ts';

/** Takes it; what `before` had and it has not goes. */
export interface LocalStateTaker {
  applyLocal(state: LocalState, before?: LocalState): Promise<void>;
}

type LocalConfig = Pick<Config, 'localXdsPath' | 'localXds'>;

/** Reads it; undefined where there is none. Throws `bad_local_state`. */
export function localState(config: LocalConfig): LocalState | undefined {
  if (config.localXdsPath !== undefined) return readLocalState(config.localXdsPath);
  return config.localXds === undefined ? undefined : parseLocalState(config.localXds);
}

/**
 * Loads it into the model and follows its file: what a file does not name any more is removed; one that cannot be read
 * is logged with object and field, and changes nothing. Rejects with `bad_local_state` at the start. Returns what ends it.
 */
export async function followLocalState(
  config: LocalConfig,
  model: LocalStateTaker,
  logger: Logger,
): Promise<() => void> {
  const path = config.localXdsPath;
  if (path === undefined) {
    const only = localState(config);
    if (only !== undefined) await model.applyLocal(only);
    return () => undefined;
  }
  let known: LocalState | undefined;
  const load = async (): Promise<void> => {
    const next = readLocalState(path);
    await model.applyLocal(next, known);
    known = next;
  };
  const reload = async (): Promise<void> => {
    await load();
    logger.info({ path }, 'local state has changed');
  };
  let applied = Promise.resolve();
  // Before it is read: a change while it is taken must not be missed.
  const stop = watchFile(path, () => {
    applied = applied.then(reload).catch((err: unknown) => {
      logger.error({ err: errorMessage(err) }, 'local state stays as it was');
    });
  });
  try {
    await (applied = load());
  } catch (err) {
    stop();
    throw err;
  }
  return stop;
}

/** What `before` names and `now` does not, by the names that the model removes by. */
export function goneNames(
  before: LocalState,
  now: LocalState,
): { readonly addresses: string[]; readonly policies: string[] } {
  return {
    addresses: without(addressNames(before), addressNames(now)),
    policies: without(policyNames(before), policyNames(now)),
  };
}

const addressNames = ({ workloads, services }: LocalState): string[] => [
  ...workloads.map(({ uid }) => uid),
  ...services.map(serviceKey),
];

const policyNames = ({ policies }: LocalState): string[] => policies.map(({ key }) => key);

function without(names: readonly string[], kept: readonly string[]): string[] {
  const known = new Set(kept);
  return names.filter((name) => !known.has(name));
}
