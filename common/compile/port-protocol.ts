// Which protocol a service port speaks: appProtocol first, then the prefix of the port's name, then ports whose
// server speaks first by custom. Anything else is unknown and sniffed at the waypoint.
import { AppProtocol } from '../workload/gen/workload_pb.ts';
import { PortProtocol } from '../l7/gen/l7_pb.ts';
import type { ServicePort } from './types.ts';

export type ServiceProtocol = 'http' | 'http2' | 'grpc' | 'tcp' | 'tls' | 'udp' | 'unknown';

const BY_NAME: Readonly<Record<string, ServiceProtocol>> = {
  http: 'http',
  http2: 'http2',
  grpc: 'grpc',
  'grpc-web': 'http',
  tcp: 'tcp',
  tls: 'tls',
  https: 'tls',
  mongo: 'tcp',
  mysql: 'tcp',
  redis: 'tcp',
  udp: 'udp',
  'kubernetes.io/h2c': 'http2',
  'kubernetes.io/ws': 'http',
  'kubernetes.io/wss': 'tls',
};
// SMTP, DNS, MySQL, MongoDB: the server speaks first, so sniffing would wait in vain.
const SERVER_FIRST = [25, 53, 3306, 27017];

/** The protocol of a Service's port. */
export function portProtocol(port: ServicePort): ServiceProtocol {
  if (port.protocol === 'UDP' || port.protocol === 'SCTP') return 'udp';
  const declared = port.appProtocol?.toLowerCase();
  if (declared !== undefined && Object.hasOwn(BY_NAME, declared)) {
    return BY_NAME[declared] ?? 'unknown';
  }
  return namedProtocol(port.name ?? '') ?? (SERVER_FIRST.includes(port.port) ? 'tcp' : 'unknown');
}

/** The protocol a name says, alone or before a dash. */
export function namedProtocol(name: string): ServiceProtocol | undefined {
  const lower = name.toLowerCase();
  const word = lower.startsWith('grpc-web') ? 'grpc-web' : (lower.split('-')[0] ?? '');
  return Object.hasOwn(BY_NAME, word) ? BY_NAME[word] : undefined;
}

/** As the workload API says it. */
export function appProtocol(protocol: ServiceProtocol): AppProtocol {
  switch (protocol) {
    case 'http':
      return AppProtocol.HTTP11;
    case 'http2':
      return AppProtocol.HTTP2;
    case 'grpc':
      return AppProtocol.GRPC;
    case 'tcp':
      return AppProtocol.TCP;
    case 'tls':
      return AppProtocol.TLS;
    case 'udp':
    case 'unknown':
      return AppProtocol.UNKNOWN;
  }
}

/** As a waypoint is told. */
export function waypointProtocol(protocol: ServiceProtocol): PortProtocol {
  switch (protocol) {
    case 'http':
      return PortProtocol.HTTP;
    case 'http2':
      return PortProtocol.HTTP2;
    case 'grpc':
      return PortProtocol.GRPC;
    case 'tcp':
    case 'tls':
    case 'udp':
      return PortProtocol.TCP;
    case 'unknown':
      return PortProtocol.AUTO;
  }
}
