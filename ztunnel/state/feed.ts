// What fills the model: the local file, the control plane's delta xDS, or both.
import { systemClock } from '../../common/clock.ts';
import { deltaStreamOpener } from '../../common/grpc/delta-stream.ts';
import type { LoggerRoot } from '../../common/telemetry/logger.ts';
import { ADDRESS_TYPE_URL } from '../../common/workload/decode.ts';
import { DeltaClient } from '../../common/xds/delta-client.ts';
import type { ControlMetrics } from '../admin/control-metrics.ts';
import type { Config } from '../config.ts';
import { followLocalState } from './local-state.ts';
import type { MeshModel } from './model.ts';
import { xdsNode } from './xds-node.ts';

/** Options of {@link startFeed}. */
export interface FeedOptions {
  readonly config: Config;
  readonly loggers: LoggerRoot;
  readonly model: MeshModel;
  readonly metrics: ControlMetrics;
}

/** Starts it; `onSynced` when the model is complete. Rejects with `bad_local_state`. What ends it. */
export async function startFeed(
  { config, loggers, model, metrics }: FeedOptions,
  onSynced: () => void,
): Promise<() => void> {
  const stopLocal = await followLocalState(config, model, loggers.scope('state'));
  if (config.xds === undefined) {
    onSynced();
    return stopLocal;
  }
  const xds = new DeltaClient({
    ...xdsNode(config),
    subscriptions: model.subscriptions(),
    openStream: deltaStreamOpener(config.xds),
    clock: systemClock,
    logger: loggers.scope('xds'),
    onSynced,
    onStreamEnd: (end) => metrics.countStreamEnd(end.reason),
    onMessage: (url, bytes) => metrics.countMessage(url, bytes),
  });
  model.askThrough((added, dropped) => xds.changeNames(ADDRESS_TYPE_URL, added, dropped));
  xds.start();
  return () => {
    stopLocal();
    xds.close();
  };
}
