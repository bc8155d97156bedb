// What the proxies of a data thread share, with a workload `pod` at 127.0.0.1, for tests over the wire.
import { SeriesTable } from '../../../common/telemetry/series-table.ts';
import type { Logger } from '../../../common/telemetry/logger.ts';
import { WorkloadStore } from '../../../common/workload/store.ts';
import type { Workload } from '../../../common/workload/model.ts';
import type { Reactor } from '../../../engine/reactor/reactor.ts';
import { readConfig } from '../../../ztunnel/config.ts';
import { CertificateStore } from '../../../ztunnel/identity/certificate-store.ts';
import { ConnectionRecorder } from '../../../ztunnel/proxy/connection-result.ts';
import { HostAddresses } from '../../../ztunnel/proxy/host-addresses.ts';
import { L7Sight } from '../../../ztunnel/proxy/l7-sight.ts';
import { L7_SIGHT_FAMILIES } from '../../../ztunnel/proxy/l7-series.ts';
import { PolicyGate } from '../../../ztunnel/proxy/policy-gate.ts';
import type { ProxyContext } from '../../../ztunnel/proxy/proxy-context.ts';
import { TRAFFIC_FAMILIES } from '../../../ztunnel/proxy/traffic-families.ts';
import { makeWorkload } from '../../support/mesh-builders.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

/** `access` gets the lines of connections. */
export function makeContext(
  reactor: Reactor,
  access: Logger,
  more: { readonly env?: NodeJS.ProcessEnv; readonly pod?: Partial<Workload> } = {},
): ProxyContext {
  const store = new WorkloadStore();
  store.upsertWorkload(makeWorkload('pod', '127.0.0.1', more.pod));
  const table = new SeriesTable([...TRAFFIC_FAMILIES, ...L7_SIGHT_FAMILIES], () => undefined);
  const env = { ENABLE_ORIG_SRC: 'false', FAKE_CA: 'true', FAKE_CA_ROOT: '/none', ...more.env };
  const config = readConfig(env);
  const now = (): number => reactor.now();
  return {
    ...{ reactor, store, logger: quietLogger() },
    // Outside of pods there is nothing to mark.
    config: { ...config, packetMark: undefined },
    gate: new PolicyGate(reactor, new Map()),
    certificates: new CertificateStore(reactor, () => undefined),
    recorder: new ConnectionRecorder(table, access),
    sight: new L7Sight(table, config.l7Sight, now),
    hosts: new HostAddresses(() => undefined, now),
    findPod: () => undefined,
    resolve: () => undefined,
  };
}
