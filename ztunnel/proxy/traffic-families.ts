// The metric families of connections: Istio's names, help texts and order, then our own.
import type { FamilyDefinition } from '../../common/telemetry/series-table.ts';

export const TRAFFIC_FAMILIES: readonly FamilyDefinition[] = [
  {
    name: 'istio_tcp_connections_opened',
    help: 'The total number of TCP connections opened.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_connections_closed',
    help: 'The total number of TCP connections closed.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_received_bytes',
    help: 'The size of total bytes received during request in case of a TCP connection.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_sent_bytes',
    help: 'The size of total bytes sent during response in case of a TCP connection.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_connections_failed',
    help: 'The total number of TCP connections that failed (unstable).',
    type: 'counter',
  },
  {
    name: 'istio_tcp_sockets_open',
    help: 'The number of TCP sockets open (unstable).',
    type: 'gauge',
  },
  {
    name: 'ambient_connections_refused',
    help: 'Connections that ended badly, by reason; also those refused before any policy or dial.',
    type: 'counter',
  },
  {
    name: 'istio_crl_policy_rejections',
    help: 'Connections rejected or closed because the certificate of the peer is revoked (unstable).',
    type: 'counter',
  },
  {
    name: 'ambient_data_thread_connections',
    help: 'Connections opened by each data thread.',
    type: 'counter',
  },
  {
    name: 'ambient_policy_dry_run',
    help: 'Inbound connections checked by dry-run policies, by what these would have done.',
    type: 'counter',
  },
  {
    name: 'ambient_connect_retries',
    help: 'Connects that failed before any byte was delivered and were tried again, by the reason of the failure.',
    type: 'counter',
  },
  {
    name: 'istio_on_demand_dns',
    help: 'Total number of requests that used on-demand DNS (unstable).',
    type: 'counter',
  },
];
