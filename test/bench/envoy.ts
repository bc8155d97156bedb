// Envoy as the peer: a pair that carries HBONE (tcp_proxy with tunneling_config on one side, a CONNECT-terminating
// connection manager on the other), and Envoy in the waypoint's place (as Istio configures it: terminate, an inner
// HTTP listener, originate). One worker thread, as our proxies have on two cores. The pair does a node proxy's job:
// its pods have the same redirection rules, and the server sees the client's address.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { issueLeaf, spiffeId, type CertFiles } from './pki.ts';
import { writePodRules } from './pod-redirection.ts';
import {
  ADDRESS,
  HTTP_PORT,
  IPERF_PORT,
  SERVICE_VIP,
  type PodName,
  type Topology,
} from './topology.ts';

type Json = Record<string, unknown>;

const HBONE_PORT = 15008;
const CAPTURE_PORT = 15001;
// Linux socket options of what a node proxy sends: not redirected, and from another's address.
const MARKED: Json = { level: 1, name: 36, int_value: 0x539, state: 'STATE_PREBIND' };
const TRANSPARENT: Json = { level: 0, name: 19, int_value: 1, state: 'STATE_PREBIND' };
const PORTS = [IPERF_PORT, HTTP_PORT];
const TYPE = 'type.googleapis.com/envoy.extensions';

const socket = (address: string, port: number): Json => ({
  socket_address: { address, port_value: port },
});

const endpoints = (name: string, endpoint: Json): Json => ({
  cluster_name: name,
  endpoints: [{ lb_endpoints: [{ endpoint }] }],
});

// Same windows as HBONE has in ztunnel, so that neither side is held back by flow control.
const H2_OPTIONS: Json = {
  allow_connect: true,
  initial_stream_window_size: 4 << 20,
  initial_connection_window_size: 16 << 20,
};

function commonTls(files: CertFiles, root: CertFiles): Json {
  return {
    alpn_protocols: ['h2'],
    tls_params: {
      tls_minimum_protocol_version: 'TLSv1_3',
      tls_maximum_protocol_version: 'TLSv1_3',
    },
    tls_certificates: [
      { certificate_chain: { filename: files.cert }, private_key: { filename: files.key } },
    ],
    validation_context: { trusted_ca: { filename: root.cert } },
  };
}

const upstreamTls = (files: CertFiles, root: CertFiles): Json => ({
  name: 'tls',
  typed_config: {
    '@type': `${TYPE}.transport_sockets.tls.v3.UpstreamTlsContext`,
    common_tls_context: commonTls(files, root),
  },
});

const downstreamTls = (files: CertFiles, root: CertFiles): Json => ({
  name: 'tls',
  typed_config: {
    '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
    require_client_certificate: true,
    common_tls_context: commonTls(files, root),
  },
});

const h2Cluster = (name: string, address: string, tls: Json): Json => ({
  name,
  connect_timeout: '5s',
  type: 'STATIC',
  load_assignment: endpoints(name, { address: socket(address, HBONE_PORT) }),
  transport_socket: tls,
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${TYPE}.upstreams.http.v3.HttpProtocolOptions`,
      explicit_http_config: { http2_protocol_options: H2_OPTIONS },
    },
  },
});

const tunnel = (cluster: string, authority: string): Json => ({
  name: 'envoy.filters.network.tcp_proxy',
  typed_config: {
    '@type': `${TYPE}.filters.network.tcp_proxy.v3.TcpProxy`,
    stat_prefix: cluster,
    cluster,
    tunneling_config: { hostname: authority },
  },
});

const ROUTER: Json = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` },
};

function connectManager(routes: readonly Json[]): Json {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: 'terminate',
      codec_type: 'HTTP2',
      http2_protocol_options: H2_OPTIONS,
      upgrade_configs: [{ upgrade_type: 'CONNECT' }],
      route_config: { virtual_hosts: [...routes] },
      http_filters: [ROUTER],
    },
  };
}

const connectRoute = (cluster: string, domains: readonly string[]): Json => ({
  name: cluster,
  domains: [...domains],
  routes: [
    {
      match: { connect_matcher: {} },
      route: {
        cluster,
        timeout: '0s',
        upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }],
      },
    },
  ],
});

function clientConfig(target: string, tls: Json): Json {
  return {
    static_resources: {
      listeners: [
        {
          name: 'capture',
          address: socket('0.0.0.0', CAPTURE_PORT),
          listener_filters: [
            {
              name: 'original_dst',
              typed_config: {
                '@type': `${TYPE}.filters.listener.original_dst.v3.OriginalDst`,
              },
            },
          ],
          filter_chains: PORTS.map((port) => ({
            filter_chain_match: { destination_port: port },
            filters: [tunnel('hbone', `${target}:${port}`)],
          })),
        },
      ],
      clusters: [
        {
          ...h2Cluster('hbone', target, tls),
          upstream_bind_config: {
            source_address: { address: '0.0.0.0', port_value: 0 },
            socket_options: [MARKED],
          },
        },
      ],
    },
  };
}

function serverConfig(address: string, tls: Json): Json {
  const name = (port: number): string => `app-${port}`;
  return {
    static_resources: {
      listeners: [
        {
          name: 'hbone',
          address: socket('0.0.0.0', HBONE_PORT),
          filter_chains: [
            {
              transport_socket: tls,
              filters: [
                connectManager(
                  PORTS.map((port) => connectRoute(name(port), [`${address}:${port}`])),
                ),
              ],
            },
          ],
        },
      ],
      clusters: PORTS.map((port) => ({
        name: name(port),
        connect_timeout: '5s',
        type: 'STATIC',
        load_assignment: endpoints(name(port), { address: socket(address, port) }),
        upstream_bind_config: {
          source_address: { address: ADDRESS.client, port_value: 0 },
          freebind: true,
          socket_options: [MARKED, TRANSPARENT],
        },
      })),
    },
  };
}

const internalCluster = (name: string, listener: string): Json => ({
  name,
  connect_timeout: '5s',
  type: 'STATIC',
  transport_socket: {
    name: 'internal_upstream',
    typed_config: {
      '@type': `${TYPE}.transport_sockets.internal_upstream.v3.InternalUpstreamTransport`,
      transport_socket: {
        name: 'raw_buffer',
        typed_config: { '@type': `${TYPE}.transport_sockets.raw_buffer.v3.RawBuffer` },
      },
    },
  },
  load_assignment: endpoints(name, {
    address: { envoy_internal_address: { server_listener_name: listener, endpoint_id: name } },
  }),
});

const innerHttp: Json = {
  name: 'envoy.filters.network.http_connection_manager',
  typed_config: {
    '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'inner',
    route_config: {
      virtual_hosts: [
        {
          name: 'service',
          domains: ['*'],
          routes: [{ match: { prefix: '/' }, route: { cluster: 'originate', timeout: '0s' } }],
        },
      ],
    },
    http_filters: [ROUTER],
  },
};

function waypointConfig(downstream: Json, upstream: Json): Json {
  return {
    bootstrap_extensions: [
      {
        name: 'envoy.bootstrap.internal_listener',
        typed_config: { '@type': `${TYPE}.bootstrap.internal_listener.v3.InternalListener` },
      },
    ],
    static_resources: {
      listeners: [
        {
          name: 'terminate',
          address: socket('0.0.0.0', HBONE_PORT),
          filter_chains: [
            {
              transport_socket: downstream,
              filters: [connectManager([connectRoute('inner', ['*'])])],
            },
          ],
        },
        { name: 'main', internal_listener: {}, filter_chains: [{ filters: [innerHttp] }] },
        {
          name: 'originate',
          internal_listener: {},
          filter_chains: [{ filters: [tunnel('endpoint', `${ADDRESS.server}:${HTTP_PORT}`)] }],
        },
      ],
      clusters: [
        internalCluster('inner', 'main'),
        internalCluster('originate', 'originate'),
        h2Cluster('endpoint', ADDRESS.server, upstream),
      ],
    },
  };
}

function start(binary: string, topology: Topology, pod: PodName, config: Json): ChildProcess {
  const path = join(topology.dir, `envoy-${pod}-${String(Math.random()).slice(2, 8)}.json`);
  writeFileSync(path, JSON.stringify(config));
  const argv = [binary, '-c', path, '--concurrency', '1', '-l', 'error', '--disable-hot-restart'];
  return topology.spawn(pod, argv);
}

/** Starts an Envoy at the client and one at the server's pod. Returns the processes to account. */
export function startEnvoyPair(
  binary: string,
  topology: Topology,
  server: 'server' | 'near',
  root: CertFiles,
): ChildProcess[] {
  const client = issueLeaf(topology.dir, root, 'client');
  const leaf = issueLeaf(topology.dir, root, server);
  const address = ADDRESS[server];
  writePodRules(topology, 'client');
  writePodRules(topology, server);
  return [
    start(binary, topology, 'client', clientConfig(address, upstreamTls(client, root))),
    start(binary, topology, server, serverConfig(address, downstreamTls(leaf, root))),
  ];
}

/** Starts Envoy in the waypoint's pod. */
export function startEnvoyWaypoint(
  binary: string,
  topology: Topology,
  root: CertFiles,
): ChildProcess {
  const leaf = issueLeaf(topology.dir, root, 'waypoint');
  return start(
    binary,
    topology,
    'waypoint',
    waypointConfig(downstreamTls(leaf, root), upstreamTls(leaf, root)),
  );
}

/** What the waypoint cases dial. */
export const waypointTarget = SERVICE_VIP;
export const waypointIdentity = spiffeId('waypoint');
