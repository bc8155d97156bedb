// Envoy as a peer of tunnels: as a client it carries connections to ports of loopback by HBONE, as a server it ends tunnels
// and dials loopback. Each knows the mesh's root and which identities it talks to; each tunnel is a line of its access log.
import type { ChildProcess } from 'node:child_process';
import type { NetnsMesh } from '../support/netns-mesh.ts';

type Json = Record<string, unknown>;

const HBONE_PORT = 15_008;
const TYPE = 'type.googleapis.com/envoy.extensions';
const H2_OPTIONS: Json = { allow_connect: true, initial_stream_window_size: 4 << 20 };

/** What an Envoy is told. */
export interface EnvoyPeer {
  readonly role: 'client' | 'server';
  /** Pod it runs in, with the identity it shows. */
  readonly pod: string;
  readonly identity: string;
  /** The only identity it talks to. */
  readonly peer: string;
  /** The address in the authorities of tunnels: the far pod's for a client, its own for a server. */
  readonly address: string;
  readonly ports: readonly number[];
}

const socketOf = (address: string, port: number): Json => ({
  address: { socket_address: { address, port_value: port } },
});

function tlsOf(mesh: NetnsMesh, { pod, identity, peer }: EnvoyPeer): Json {
  const { cert, key } = mesh.certificate(identity);
  const file = (name: string, text: string): Json => ({
    filename: mesh.writeFile(`${pod}-${name}.pem`, text),
  });
  return {
    alpn_protocols: ['h2'],
    tls_params: {
      tls_minimum_protocol_version: 'TLSv1_3',
      tls_maximum_protocol_version: 'TLSv1_3',
    },
    tls_certificates: [{ certificate_chain: file('cert', cert), private_key: file('key', key) }],
    validation_context: {
      trusted_ca: file('root', mesh.root.certPem),
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: peer } }],
    },
  };
}

const accessLog = (format: string): Json[] => [
  {
    name: 'envoy.access_loggers.stdout',
    typed_config: {
      '@type': `${TYPE}.access_loggers.stream.v3.StdoutAccessLog`,
      log_format: { text_format_source: { inline_string: `${format}\n` } },
    },
  },
];

function clientConfig(address: string, ports: readonly number[], tls: Json): Json {
  const listeners = ports.map((port) => ({
    name: `port-${port}`,
    ...socketOf('127.0.0.1', port),
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.tcp_proxy',
            typed_config: {
              '@type': `${TYPE}.filters.network.tcp_proxy.v3.TcpProxy`,
              stat_prefix: 'hbone',
              cluster: 'hbone',
              tunneling_config: { hostname: `${address}:${port}` },
              access_log: accessLog(`${address}:${port} %RESPONSE_FLAGS% %UPSTREAM_PEER_URI_SAN%`),
            },
          },
        ],
      },
    ],
  }));
  const cluster = {
    name: 'hbone',
    connect_timeout: '5s',
    type: 'STATIC',
    load_assignment: {
      cluster_name: 'hbone',
      endpoints: [{ lb_endpoints: [{ endpoint: socketOf(address, HBONE_PORT) }] }],
    },
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': `${TYPE}.transport_sockets.tls.v3.UpstreamTlsContext`,
        common_tls_context: tls,
      },
    },
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': `${TYPE}.upstreams.http.v3.HttpProtocolOptions`,
        explicit_http_config: { http2_protocol_options: H2_OPTIONS },
      },
    },
  };
  return { static_resources: { listeners, clusters: [cluster] } };
}

function serverConfig(address: string, ports: readonly number[], tls: Json): Json {
  const route = (port: number): Json => ({
    name: `port-${port}`,
    domains: [`${address}:${port}`],
    routes: [
      {
        match: { connect_matcher: {} },
        route: {
          cluster: `port-${port}`,
          timeout: '0s',
          upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }],
        },
      },
    ],
  });
  const manager = {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: 'terminate',
      codec_type: 'HTTP2',
      http2_protocol_options: H2_OPTIONS,
      upgrade_configs: [{ upgrade_type: 'CONNECT' }],
      access_log: accessLog(
        '%REQ(:AUTHORITY)% %RESPONSE_CODE% %DOWNSTREAM_PEER_URI_SAN% %REQ(BAGGAGE)% %REQ(FORWARDED)%',
      ),
      route_config: { virtual_hosts: ports.map(route) },
      http_filters: [
        {
          name: 'envoy.filters.http.router',
          typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` },
        },
      ],
    },
  };
  const listener = {
    name: 'hbone',
    ...socketOf('0.0.0.0', HBONE_PORT),
    filter_chains: [
      {
        transport_socket: {
          name: 'tls',
          typed_config: {
            '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
            require_client_certificate: true,
            common_tls_context: tls,
          },
        },
        filters: [manager],
      },
    ],
  };
  const clusters = ports.map((port) => ({
    name: `port-${port}`,
    connect_timeout: '5s',
    type: 'STATIC',
    load_assignment: {
      cluster_name: `port-${port}`,
      endpoints: [{ lb_endpoints: [{ endpoint: socketOf('127.0.0.1', port) }] }],
    },
  }));
  return { static_resources: { listeners: [listener], clusters } };
}

/** Starts it; it may take a moment to listen. Its access log is on standard output. */
export function startEnvoyPeer(mesh: NetnsMesh, binary: string, peer: EnvoyPeer): ChildProcess {
  const configOf = peer.role === 'client' ? clientConfig : serverConfig;
  const config = configOf(peer.address, peer.ports, tlsOf(mesh, peer));
  const path = mesh.writeFile(`${peer.pod}-envoy.json`, JSON.stringify(config));
  const args = ['-c', path, '--concurrency', '1', '-l', 'error', '--disable-hot-restart'];
  return mesh.startProgram(peer.pod, binary, args);
}
