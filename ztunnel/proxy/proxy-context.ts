// What the proxies of all pods share in a data thread.
import type { Logger } from '../../common/telemetry/logger.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import type { Config } from '../config.ts';
import type { CertificateStore } from '../identity/certificate-store.ts';
import type { L7Sight } from './l7-sight.ts';
import type { PolicyGate } from './policy-gate.ts';
import type { ConnectionRecorder } from './connection-result.ts';
import type { InboundPod } from './inbound-types.ts';
import type { HostAddresses } from './host-addresses.ts';

/** Shared by every pod of the thread. */
export interface ProxyContext {
  readonly reactor: Reactor;
  readonly config: Config;
  readonly store: WorkloadStore;
  readonly gate: PolicyGate;
  readonly certificates: CertificateStore;
  readonly recorder: ConnectionRecorder;
  readonly sight: L7Sight;
  readonly logger: Logger;
  /** The pod of this node that a workload record describes now. */
  findPod(workload: Workload): InboundPod | undefined;
  readonly hosts: HostAddresses;
  /** Makes sure the store has what is known of an address: undefined when it has it, false when nobody could tell. */
  resolve(network: string, ip: string): Promise<boolean> | undefined;
}
