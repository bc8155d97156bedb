// WorkloadEntries: workloads outside the cluster (virtual machines, say) that services select by label. They are always
// healthy: nothing here probes them.
import { WorkloadEntrySchema } from '../resources/gen/service_entry_pb.ts';
import { byAge, readResource } from '../resources/resource.ts';
import { validateWorkloadEntry } from '../resources/validate-service-entry.ts';
import type { WorkloadEntryEntity } from './entities.ts';
import type { CompileInput } from './types.ts';
import type { VerdictLog } from './verdict-log.ts';

const NETWORK_LABEL = 'topology.istio.io/network';

/** Every entry that can be used. */
export function readWorkloadEntries(input: CompileInput, log: VerdictLog): WorkloadEntryEntity[] {
  const { clusterId } = input.mesh;
  const entries: WorkloadEntryEntity[] = [];
  for (const object of input.workloadEntries ?? []) {
    log.guard('WorkloadEntry', object, () => {
      const resource = readResource(
        'WorkloadEntry',
        WorkloadEntrySchema,
        object,
        validateWorkloadEntry,
      );
      if (!log.admit(resource)) return;
      const { spec, problems: _problems, isInvalid: _isInvalid, ...meta } = resource;
      const labels = { ...meta.labels, ...spec.labels };
      const network = spec.network === '' ? (labels[NETWORK_LABEL] ?? '') : spec.network;
      const uid = `${clusterId}/networking.istio.io/WorkloadEntry/${meta.namespace}/${meta.name}`;
      entries.push({ ...meta, labels, uid, endpoint: { ...spec, labels, network } });
      const message = 'node proxies know it';
      log.add(resource, { field: 'spec', enforcedAt: 'node', reason: 'Accepted', message });
    });
  }
  return entries.sort(byAge);
}
