// Istio's TCP labels, in Istio's order. Missing values are `unknown`.
import type { Service, Workload } from '../../common/workload/model.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Baggage } from '../../common/hbone/baggage.ts';
import { isDescribedByBaggage } from './remote-workload.ts';

/** What labels and access lines say of a connection. */
export interface ConnectionParties {
  readonly direction: 'inbound' | 'outbound';
  readonly source: Workload | undefined;
  /** Used for the source where no workload record is known. */
  readonly sourceBaggage: Baggage | undefined;
  /** Proven by mutual TLS, else undefined. */
  readonly sourceIdentity: string | undefined;
  readonly destination: Workload | undefined;
  readonly destinationIdentity: string | undefined;
  readonly service: Service | undefined;
  /** Joined on this node: identities are known and policy was applied, but nothing was encrypted. */
  readonly isNodeLocal?: boolean;
}

/** The same connection, without what differs from peer to peer. */
export function withoutPeer(parties: ConnectionParties): ConnectionParties {
  return parties.direction === 'outbound'
    ? { ...parties, destination: undefined, service: undefined }
    : {
        ...parties,
        source: undefined,
        sourceBaggage: undefined,
        // Not its name, but that it had one: the security label says so.
        sourceIdentity: parties.sourceIdentity && 'unknown',
      };
}

type Label = readonly [name: string, value: string];

/** The label list of a connection. */
export function trafficLabels(parties: ConnectionParties, flag: string): Label[] {
  const { source, sourceBaggage: baggage, destination, service } = parties;
  const isMutualTls =
    parties.direction === 'outbound'
      ? parties.destinationIdentity !== undefined
      : parties.sourceIdentity !== undefined;
  const labels: Label[] = [
    ['reporter', parties.direction === 'outbound' ? 'source' : 'destination'],
    ['source_workload', known(source?.workloadName ?? baggage?.workloadName)],
    ['source_canonical_service', known(source?.canonicalName ?? baggage?.canonicalName)],
    ['source_canonical_revision', known(source?.canonicalRevision ?? baggage?.canonicalRevision)],
    ['source_workload_namespace', known(source?.namespace ?? baggage?.namespace)],
    ['source_principal', known(parties.sourceIdentity)],
    ['source_app', known(source?.canonicalName ?? baggage?.workloadName)],
    ['source_version', known(source?.canonicalRevision ?? baggage?.canonicalRevision)],
    ['source_cluster', known(source?.clusterId ?? baggage?.clusterId)],
    ['destination_service', known(service?.hostname)],
    ['destination_service_namespace', known(service?.namespace)],
    ['destination_service_name', known(service?.name)],
    ['destination_workload', known(destination?.workloadName)],
    ['destination_canonical_service', known(destination?.canonicalName)],
    ['destination_canonical_revision', known(destination?.canonicalRevision)],
    ['destination_workload_namespace', known(destination?.namespace)],
    ['destination_principal', known(destination && workloadIdentity(destination))],
    ['destination_app', known(destination && appOf(destination))],
    ['destination_version', known(destination?.canonicalRevision)],
    ['destination_cluster', known(destination?.clusterId)],
    ['request_protocol', 'tcp'],
    ['response_flags', flag],
    ['connection_security_policy', securityPolicy(parties, isMutualTls)],
  ];
  if (source !== undefined || baggage !== undefined || destination !== undefined) {
    labels.push(
      ['source_region', known(source?.locality.region ?? baggage?.region)],
      ['source_zone', known(source?.locality.zone ?? baggage?.zone)],
      ['destination_region', known(destination?.locality.region)],
      ['destination_zone', known(destination?.locality.zone)],
    );
  }
  return labels;
}

/** As the spec has it: from baggage the app is the workload. */
function appOf(destination: Workload): string {
  return isDescribedByBaggage(destination) ? destination.workloadName : destination.canonicalName;
}

function securityPolicy(parties: ConnectionParties, isMutualTls: boolean): string {
  if (parties.isNodeLocal === true) return 'node_local';
  return isMutualTls ? 'mutual_tls' : 'unknown';
}

/** What on-demand DNS says of who asked. */
export function sourceLabels(source: Workload): Label[] {
  return [
    ['source_workload', known(source.workloadName)],
    ['source_canonical_service', known(source.canonicalName)],
    ['source_canonical_revision', known(source.canonicalRevision)],
    ['source_workload_namespace', known(source.namespace)],
    ['source_principal', workloadIdentity(source)],
    ['source_app', known(source.canonicalName)],
    ['source_version', known(source.canonicalRevision)],
    ['source_cluster', known(source.clusterId)],
  ];
}

function known(value: string | undefined): string {
  return value === undefined || value === '' ? 'unknown' : value;
}
