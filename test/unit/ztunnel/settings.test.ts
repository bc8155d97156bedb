// Every variable of Istio's ztunnel by what a value of it does here: read, refused, or reported as
// without effect. A variable without a row fails.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readConfig } from '../../../ztunnel/config.ts';
import { ISTIO_SETTINGS } from '../../../ztunnel/settings.ts';

/** What the configuration then contains, or what is said. */
type Outcome =
  | { readonly is: object }
  | { readonly problem: RegExp }
  | { readonly warning: RegExp }
  | { readonly silent: true };

type Row = readonly [variable: string, value: string, outcome: Outcome, beside?: object];

const DEDICATED = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/pod/account' };
const UNREADABLE = { problem: /must be/ };
const OFF = { ISTIO_META_DNS_CAPTURE: 'false' };

const ROWS: readonly Row[] = [
  ['ENABLE_PROXY', 'true', { silent: true }],
  ['ENABLE_PROXY', 'false', { problem: /^.*ENABLE_PROXY is not supported/ }],
  ['PROXY_MODE', 'shared', { is: { dedicatedPod: undefined } }],
  ['PROXY_MODE', 'dedicated', { problem: /PROXY_WORKLOAD_INFO/ }],
  ['PROXY_MODE', 'Shared', UNREADABLE],
  ['PROXY_WORKLOAD_INFO', 'a/b/c', { is: { dedicatedPod: undefined } }],
  [
    'PROXY_WORKLOAD_INFO',
    'a/b/c',
    { is: { dedicatedPod: { namespace: 'a', name: 'b', serviceAccount: 'c' } } },
    DEDICATED,
  ],
  ['NODE_NAME', 'n', { is: { nodeName: 'n' } }],
  ['NETWORK', 'n', { is: { network: 'n' } }],
  ['CLUSTER_ID', 'c', { is: { clusterId: 'c' } }],
  ['CLUSTER_DOMAIN', 'Example.org', { is: { dns: { domain: 'example.org' } } }],
  [
    'TRUST_DOMAIN',
    'other',
    { is: { ownPod: { identity: 'spiffe://other/ns/n/sa/s' } } },
    { POD_NAME: 'p', POD_NAMESPACE: 'n', SERVICE_ACCOUNT: 's' },
  ],
  ['POD_NAME', 'p', { is: { podName: 'p' } }],
  ['POD_NAMESPACE', 'p', { is: { podNamespace: 'p' } }],
  ['SERVICE_ACCOUNT', 's', { is: { serviceAccount: 's' } }],
  ['INSTANCE_IP', '10.0.0.1', { is: { instanceIps: ['10.0.0.1'] } }],
  ['INSTANCE_IP', '10.0.0.1,fd00::1', { is: { instanceIps: ['10.0.0.1', 'fd00::1'] } }],
  [
    'KUBERNETES_SERVICE_HOST',
    '10.0.0.1',
    { is: { xds: { address: 'https://istiod.istio-system.svc:15012' } } },
  ],
  ['XDS_ADDRESS', 'a:1', { is: { xds: { address: 'a:1' } } }],
  ['XDS_ADDRESS', '', { is: { xds: undefined } }],
  ['XDS_ADDRESS', 'https://:1', { problem: /XDS_ADDRESS is not a control plane address/ }],
  ['XDS_ADDRESS', 'a b:1', { problem: /XDS_ADDRESS is not a control plane address/ }],
  ['XDS_ROOT_CA', 'SYSTEM', { is: { xds: { root: 'SYSTEM' } } }],
  ['XDS_ROOT_CA', './var/run/x.pem', { is: { xds: { root: '/var/run/x.pem' } } }],
  ['ALT_XDS_HOSTNAME', 'h', { is: { xds: { altHostname: 'h' } } }],
  ['XDS_ON_DEMAND', 'true', { problem: /XDS_ON_DEMAND needs/ }],
  ['XDS_ON_DEMAND', 'true', { is: { isOnDemand: true } }, OFF],
  ['XDS_ON_DEMAND', 'false', { is: { isOnDemand: false } }],
  ['XDS_HEADER_*', 'v', { is: { xds: { headers: { x: 'v' } } } }],
  ['CA_ADDRESS', 'a:1', { is: { ca: { address: 'a:1' } } }],
  ['CA_ADDRESS', 'https://:1', { problem: /CA_ADDRESS is not a control plane address/ }],
  ['CA_ADDRESS', '', { problem: /CA_ADDRESS is empty/ }],
  ['CA_ROOT_CA', 'SYSTEM', { is: { ca: { root: 'SYSTEM' } } }],
  ['ALT_CA_HOSTNAME', 'h', { is: { ca: { altHostname: 'h' } } }],
  ['CA_HEADER_*', 'v', { is: { ca: { headers: { x: 'v' } } } }],
  ['AUTH_TOKEN', 'literal', { is: { xds: { token: 'literal' }, ca: { token: 'literal' } } }],
  ['SECRET_TTL', '30m', { is: { secretTtlSec: 1800 } }],
  ['SECRET_TTL', '30', UNREADABLE],
  ['FAKE_CA', 'true', { problem: /FAKE_CA_ROOT is required/ }],
  ['LOCAL_XDS_PATH', '/f', { is: { localXdsPath: '/f' } }],
  ['LOCAL_XDS_PATH', '/f', { problem: /are both set/ }, { LOCAL_XDS: 'workloads: []' }],
  ['LOCAL_XDS', 'workloads: []', { is: { localXds: 'workloads: []' } }],
  ['PREFERED_SERVICE_NAMESPACE', 'p', { is: { dns: { preferredNamespace: 'p' } } }],
  ['INPOD_UDS', '/s', { is: { zdsPath: '/s' } }],
  ['INPOD_PORT_REUSE', 'false', { is: { isPortReuse: false } }],
  ['PACKET_MARK', '7', { is: { packetMark: 7 } }],
  ['PACKET_MARK', '4294967296', UNREADABLE],
  ['ENABLE_ORIG_SRC', 'true', { is: { isSourcePreserved: true, isSourceRequired: true } }],
  ['ENABLE_ORIG_SRC', 'false', { is: { isSourcePreserved: false, isSourceRequired: false } }],
  ['LOCALHOST_APP_TUNNEL', 'false', { is: { isTunnelOnLoopback: false } }],
  ['ENABLE_RESPONSE_BAGGAGE', 'false', { is: { sendsResponseBaggage: false } }],
  ['IPV6_ENABLED', 'false', { is: { isIpv6: false, dns: { addresses: ['127.0.0.1'] } } }],
  ['IPV6_ENABLED', 'TRUE', UNREADABLE],
  ['UNSTABLE_ENABLE_SOCKS5', 'true', { is: { isSocks5: true } }],
  ['KEEPALIVE_ENABLED', 'false', { is: { keepaliveSec: undefined } }],
  ['KEEPALIVE_TIME', '1m', { is: { keepaliveSec: { idle: 60 } } }],
  ['KEEPALIVE_INTERVAL', '1m', { is: { keepaliveSec: { interval: 60 } } }],
  ['KEEPALIVE_RETRIES', '3', { is: { keepaliveSec: { probes: 3 } } }],
  ['USER_TIMEOUT_ENABLED', 'true', { is: { userTimeoutMs: 1_800_000 } }],
  ['USER_TIMEOUT_ENABLED', 'false', { is: { userTimeoutMs: undefined } }],
  ['HTTP2_STREAM_WINDOW_SIZE', '65535', { is: { streamWindowBytes: 65_535 } }],
  ['HTTP2_CONNECTION_WINDOW_SIZE', '65535', { is: { connectionWindowBytes: 65_535 } }],
  ['HTTP2_FRAME_SIZE', '16384', { is: { frameBytes: 16_384 } }],
  ['HTTP2_FRAME_SIZE', '16383', UNREADABLE],
  ['POOL_MAX_STREAMS_PER_CONNECTION', '1', { is: { poolMaxStreams: 1 } }],
  ['POOL_MAX_STREAMS_PER_CONNECTION', '65536', UNREADABLE],
  ['POOL_UNUSED_RELEASE_TIMEOUT', '1s', { is: { poolIdleMs: 1000 } }],
  ['CONNECTION_TERMINATION_DEADLINE', '1h', { is: { terminationDeadlineMs: 3_600_000 } }],
  ['TERMINATION_GRACE_PERIOD_SECONDS', '30', { is: { terminationDeadlineMs: 25_000 } }],
  ['CRL_PATH', '/crl', { is: { crlPath: '/crl' } }],
  ['CRL_PATH', '', { is: { crlPath: undefined } }],
  ['TLS12_ENABLED', 'true', { problem: /TLS 1\.3 only/ }],
  ['TLS12_ENABLED', 'false', { silent: true }],
  ['COMPLIANCE_POLICY', 'pqc', { is: { tlsGroups: 'X25519MLKEM768' } }],
  ['COMPLIANCE_POLICY', 'PQC', { is: { tlsGroups: undefined } }],
  ['AUTHZ_POLICY_INFO_LOGGING', 'true', { warning: /always in the access log/ }],
  ['RUST_LOG', 'warn,xds=debug', { is: { logLevel: 'warn,xds=debug' } }],
  ['RUST_LOG', 'loud', { problem: /is not a level list/ }],
  ['LOG_FORMAT', 'json', { is: { logFormat: 'json' } }],
  ['ISTIO_META_DNS_CAPTURE', 'True', { is: { dns: { port: 15_053 } } }],
  ['ISTIO_META_DNS_CAPTURE', 'no', { is: { dns: undefined } }],
  ['ISTIO_META_DNS_CAPTURE', '', { is: { dns: undefined } }],
  ['ISTIO_META_DNS_PROXY_ADDR', '[::1]:53', { is: { dns: { addresses: ['::1'], port: 53 } } }],
  ['ISTIO_META_DNS_PROXY_ADDR', 'name:53', UNREADABLE],
  ['ISTIO_META_ISTIO_VERSION', '1', { is: { version: '1' } }],
  ['ISTIO_META_CLUSTER_ID', 'c', { is: { clusterId: 'c' } }, { CLUSTER_ID: 'd' }],
  ['ISTIO_META_*', 'v', { is: { metadata: { X: 'v' } } }],
  ['ISTIO_METAJSON_*', '{"a":[1]}', { is: { metadata: { X: { a: [1] } } } }],
  ['ISTIO_METAJSON_*', '{', { warning: /ISTIO_METAJSON_X is left out/ }],
  ['PROXY_CONFIG', 'concurrency: 2', { is: { dataThreads: 2 } }],
  ['PROXY_CONFIG', 'concurrency: two', { problem: /PROXY_CONFIG: concurrency must be/ }],
];

/** How many data threads there are: test of its own. */
const ELSEWHERE = /^ZTUNNEL_(WORKER_THREADS|RESOURCE_CPU_LIMIT|RESOURCE_CPU_REQUEST|CPU_LIMIT)$/;

describe('variables of the ztunnel of Istio', () => {
  for (const [variable, value, outcome, beside] of ROWS) {
    const name = variable.replace('*', 'X');
    const around = beside === undefined ? '' : ` beside ${JSON.stringify(beside)}`;
    it(`${name}=${value}${around}: ${Object.keys(outcome).join()}`, () => {
      const environment = { ...beside, [name]: value };
      if ('problem' in outcome) {
        assert.throws(() => readConfig(environment), outcome.problem);
        return;
      }
      const config = readConfig(environment);
      if ('is' in outcome) assert.partialDeepStrictEqual(config, outcome.is);
      const said = config.warnings.join('; ');
      if ('warning' in outcome) assert.match(said, outcome.warning);
      else assert.equal(said, '');
    });
  }

  it('each has a row', () => {
    const tested = new Set(ROWS.map(([variable]) => variable));
    const untested = Object.keys(ISTIO_SETTINGS).filter((one) => !tested.has(one));
    assert.deepEqual(
      untested.filter((one) => !ELSEWHERE.test(one)),
      [],
    );
  });
});
