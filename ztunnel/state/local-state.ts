// What LOCAL_XDS_PATH or LOCAL_XDS gives: loaded at the start, shown again by config_dump.
import { parseLocalState, readLocalState } from '../../common/workload/local-file.ts';
import type { LocalState } from '../../common/workload/local-file.ts';
import type { Config } from '../config.ts';

/** Reads it; undefined where there is none. Throws `bad_local_state`. */
export function localState(
  config: Pick<Config, 'localXdsPath' | 'localXds'>,
): LocalState | undefined {
  if (config.localXdsPath !== undefined) return readLocalState(config.localXdsPath);
  return config.localXds === undefined ? undefined : parseLocalState(config.localXds);
}
