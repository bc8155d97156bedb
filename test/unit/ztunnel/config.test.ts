// The node proxy's variables: Istio's names, defaults and derived values, and what happens to those it lacks.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readConfig, type Config } from '../../../ztunnel/config.ts';
import { ISTIO_SETTINGS } from '../../../ztunnel/settings.ts';

// Of Istio's ztunnel, and of its mesh config.
const ISTIO_VARIABLES =
  `ENABLE_PROXY PROXY_MODE PROXY_WORKLOAD_INFO NODE_NAME NETWORK CLUSTER_ID CLUSTER_DOMAIN
  TRUST_DOMAIN POD_NAMESPACE SERVICE_ACCOUNT POD_NAME INSTANCE_IP KUBERNETES_SERVICE_HOST XDS_ADDRESS XDS_ROOT_CA
  ALT_XDS_HOSTNAME XDS_ON_DEMAND XDS_HEADER_* CA_ADDRESS CA_ROOT_CA ALT_CA_HOSTNAME CA_HEADER_* AUTH_TOKEN SECRET_TTL
  FAKE_CA LOCAL_XDS_PATH LOCAL_XDS PREFERED_SERVICE_NAMESPACE INPOD_UDS INPOD_PORT_REUSE PACKET_MARK ENABLE_ORIG_SRC
  LOCALHOST_APP_TUNNEL ENABLE_RESPONSE_BAGGAGE IPV6_ENABLED UNSTABLE_ENABLE_SOCKS5 KEEPALIVE_ENABLED KEEPALIVE_TIME
  KEEPALIVE_INTERVAL KEEPALIVE_RETRIES USER_TIMEOUT_ENABLED HTTP2_STREAM_WINDOW_SIZE HTTP2_CONNECTION_WINDOW_SIZE
  HTTP2_FRAME_SIZE POOL_MAX_STREAMS_PER_CONNECTION POOL_UNUSED_RELEASE_TIMEOUT CONNECTION_TERMINATION_DEADLINE
  TERMINATION_GRACE_PERIOD_SECONDS ZTUNNEL_WORKER_THREADS ZTUNNEL_RESOURCE_CPU_LIMIT ZTUNNEL_RESOURCE_CPU_REQUEST
  ZTUNNEL_CPU_LIMIT CRL_PATH TLS12_ENABLED COMPLIANCE_POLICY AUTHZ_POLICY_INFO_LOGGING RUST_LOG LOG_FORMAT
  ISTIO_META_DNS_CAPTURE ISTIO_META_DNS_PROXY_ADDR ISTIO_META_ISTIO_VERSION ISTIO_META_CLUSTER_ID ISTIO_META_*
  ISTIO_METAJSON_* PROXY_CONFIG`.split(/\s+/);

describe('configuration of the node proxy', () => {
  it('knows every variable of the ztunnel of Istio, and no other under its name', () => {
    assert.deepEqual(Object.keys(ISTIO_SETTINGS).sort(), ISTIO_VARIABLES.sort());
  });

  it('has Istio’s defaults', () => {
    const config = readConfig({});
    assert.equal(config.xds?.address, 'https://localhost:15012');
    assert.equal(config.ca?.root, '/var/run/secrets/istio/root-cert.pem');
    assert.equal(config.clusterId, 'Kubernetes');
    assert.equal(config.packetMark, 1337);
    assert.equal(config.secretTtlSec, 86_400);
    assert.equal(config.connectionWindowBytes, 4 * config.streamWindowBytes);
    assert.equal(config.poolIdleMs, 300_000);
    assert.deepEqual(config.keepaliveSec, { idle: 180, interval: 180, probes: 9 });
    assert.deepEqual(config.warnings, []);
  });

  it('asks istiod inside a cluster, and what it is told otherwise', () => {
    const inside = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
    assert.equal(readConfig(inside).ca?.address, 'https://istiod.istio-system.svc:15012');
    assert.equal(readConfig({ ...inside, XDS_ADDRESS: '' }).xds, undefined);
    const config = readConfig({ XDS_ADDRESS: 'a:1', XDS_HEADER_X_Key: 'v', AUTH_TOKEN: './var/t' });
    assert.deepEqual(config.xds, {
      address: 'a:1',
      root: '/var/run/secrets/istio/root-cert.pem',
      clusterId: 'Kubernetes',
      token: '/var/t',
      headers: { x_key: 'v' },
    });
  });

  it('takes the cluster from the metadata first', () => {
    const config = readConfig({ CLUSTER_ID: 'a', ISTIO_META_CLUSTER_ID: 'b' });
    assert.equal(config.clusterId, 'b');
    assert.deepEqual(config.metadata, { CLUSTER_ID: 'b' });
  });

  it('reads metadata that is JSON as values', () => {
    const { metadata } = readConfig({ ISTIO_META_A: 'text', ISTIO_METAJSON_B: '{"c":[1]}' });
    assert.deepEqual(metadata, { A: 'text', B: { c: [1] } });
  });

  it('takes local state as text or as a file, not both', () => {
    assert.equal(readConfig({ LOCAL_XDS: 'workloads: []' }).localXds, 'workloads: []');
    assert.throws(() => readConfig({ LOCAL_XDS: 'x', LOCAL_XDS_PATH: 'y' }), /are both set/);
  });

  for (const [environment, ms] of [
    [{}, 5000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '30' }, 25_000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '10' }, 9000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '1' }, 1000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '30', CONNECTION_TERMINATION_DEADLINE: '1h' }, 3_600_000],
  ] as const) {
    it(`drains for ${ms} ms with ${JSON.stringify(environment)}`, () => {
      assert.equal(readConfig(environment).terminationDeadlineMs, ms);
    });
  }

  it('a grace period of 0 is none, and no underflow', () => {
    const environment = { TERMINATION_GRACE_PERIOD_SECONDS: '0' };
    assert.equal(readConfig(environment).terminationDeadlineMs, 5000);
  });

  it('in dedicated mode has one pod, and no mark unless it is given', () => {
    const dedicated = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'shop/web-1/web' };
    const { dedicatedPod, packetMark } = readConfig(dedicated);
    assert.deepEqual(dedicatedPod, { namespace: 'shop', name: 'web-1', serviceAccount: 'web' });
    assert.equal(packetMark, undefined);
    assert.equal(readConfig({ ...dedicated, PACKET_MARK: '7' }).packetMark, 7);
    assert.equal(readConfig({ ...dedicated, PROXY_MODE: 'shared' }).dedicatedPod, undefined);
  });

  for (const info of [undefined, '', 'a/b', 'a/b/', '/b/c', 'a/b/c/d']) {
    it(`takes no dedicated mode for the pod ${info ?? '(unset)'}`, () => {
      const environment = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: info };
      assert.throws(() => readConfig(environment), /PROXY_WORKLOAD_INFO must be namespace\/name/);
    });
  }

  it('takes tunnels for the own pod where all is known that names it', () => {
    const named = { POD_NAME: 'z', POD_NAMESPACE: 'istio-system', SERVICE_ACCOUNT: 'ztunnel' };
    const pod = { name: 'z', namespace: 'istio-system', serviceAccount: 'ztunnel' };
    const identity = 'spiffe://cluster.local/ns/istio-system/sa/ztunnel';
    assert.deepEqual(readConfig(named).ownPod, { pod, identity });
    const elsewhere = readConfig({ ...named, TRUST_DOMAIN: 'example.org' }).ownPod;
    assert.equal(elsewhere?.identity, 'spiffe://example.org/ns/istio-system/sa/ztunnel');
    for (const name of Object.keys(named)) {
      assert.equal(readConfig({ ...named, [name]: '' }).ownPod, undefined, name);
    }
    const dedicated = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'a/b/c' };
    assert.equal(readConfig({ ...named, ...dedicated }).ownPod, undefined);
  });

  it('keeps sources where it may, must or must not', () => {
    const shown = ({ isSourcePreserved, isSourceRequired }: Config): boolean[] => [
      isSourcePreserved,
      isSourceRequired,
    ];
    assert.deepEqual(shown(readConfig({})), [true, false]);
    assert.deepEqual(shown(readConfig({ ENABLE_ORIG_SRC: 'true' })), [true, true]);
    assert.deepEqual(shown(readConfig({ ENABLE_ORIG_SRC: 'false' })), [false, false]);
  });

  it('asks on demand only without the DNS proxy', () => {
    const onDemand = { XDS_ON_DEMAND: 'true' };
    assert.throws(() => readConfig(onDemand), /XDS_ON_DEMAND needs ISTIO_META_DNS_CAPTURE=false/);
    assert.equal(readConfig({ ...onDemand, ISTIO_META_DNS_CAPTURE: 'false' }).isOnDemand, true);
    assert.equal(readConfig({}).isOnDemand, false);
  });

  it('refuses in one message all that it cannot read or lacks', () => {
    assert.throws(
      () => readConfig({ IPV6_ENABLED: 'yes', PACKET_MARK: 'x', TLS12_ENABLED: 'true' }),
      (err: Error) =>
        ['IPV6_ENABLED', 'PACKET_MARK', 'TLS12_ENABLED is not supported: TLS 1.3 only'].every(
          (part) => err.message.includes(part),
        ),
    );
    assert.deepEqual(readConfig({ TLS12_ENABLED: 'false' }).warnings, []);
  });

  it('warns of what has no effect', () => {
    const { warnings } = readConfig({ AUTHZ_POLICY_INFO_LOGGING: 'true', ISTIO_METAJSON_X: '{' });
    assert.equal(warnings.length, 2);
    assert.match(
      warnings.join(),
      /AUTHZ_POLICY_INFO_LOGGING is ignored.*ISTIO_METAJSON_X is left out/,
    );
  });
});
