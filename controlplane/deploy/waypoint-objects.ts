// The objects of a waypoint, from its Gateway: pure. All have the Gateway as owner, so that
// they go when it goes. Overlays, autoscaling and disruption budgets are not generated yet.
import type { KubeMeta, KubeObject } from '../../common/kube/resource.ts';

/** The parts of a Gateway that are read. */
export interface GatewayObject extends KubeObject {
  readonly spec?: {
    readonly gatewayClassName?: string;
    readonly addresses?: readonly unknown[];
    readonly listeners?: ReadonlyArray<{
      readonly name: string;
      readonly port: number;
      readonly protocol: string;
    }>;
    readonly infrastructure?: {
      readonly labels?: Readonly<Record<string, string>>;
      readonly annotations?: Readonly<Record<string, string>>;
    };
  };
  readonly status?: GatewayStatus;
}

/** A condition of the API. */
export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime?: string;
}

/** Status of a Gateway. */
export interface GatewayStatus {
  readonly addresses?: ReadonlyArray<{ readonly type?: string; readonly value?: string }>;
  readonly conditions?: readonly Condition[];
  readonly listeners?: ReadonlyArray<{
    readonly name: string;
    readonly attachedRoutes?: number;
    readonly supportedKinds?: readonly unknown[];
    readonly conditions?: readonly Condition[];
  }>;
}

/** Settings that every waypoint gets. */
export interface WaypointSettings {
  readonly image: string;
  readonly imagePullPolicy: string;
  /** ConfigMap in the waypoint's namespace with revocation lists; empty: none. */
  readonly crlConfigMap: string;
  readonly trustDomain: string;
  readonly trustDomainAliases: readonly string[];
  readonly clusterId: string;
  /** `istiod.istio-system.svc:15012`. */
  readonly controlPlaneAddress: string;
}

/** Objects to apply, in this order. */
export interface WaypointObjects {
  readonly serviceAccount: KubeObject;
  readonly deployment: KubeObject;
  readonly service: KubeObject;
}

export const MANAGED_LABEL = 'gateway.istio.io/managed';
export const MANAGED_VALUE = 'istio.io-mesh-controller';
const GATEWAY_NAME_LABEL = 'gateway.networking.k8s.io/gateway-name';
const GATEWAY_CLASS_LABEL = 'gateway.networking.k8s.io/gateway-class-name';
const NAME_OVERRIDE = 'gateway.istio.io/name-override';
const ACCOUNT_OVERRIDE = 'gateway.istio.io/service-account';
const PROXY_UID = 1337;
const CRL_VOLUME = 'istio-ca-crl';
const CRL_DIR = '/var/run/secrets/istio-crl';

/** Name of the waypoint's objects. */
export function waypointName(gateway: GatewayObject): string {
  return gateway.metadata?.annotations?.[NAME_OVERRIDE] ?? gateway.metadata?.name ?? '';
}

/** Builds the objects. */
export function buildWaypoint(gateway: GatewayObject, settings: WaypointSettings): WaypointObjects {
  const name = waypointName(gateway);
  const account = gateway.metadata?.annotations?.[ACCOUNT_OVERRIDE] ?? name;
  const metadata = objectMeta(gateway, name);
  return {
    serviceAccount: { metadata: { ...metadata, name: account } },
    deployment: buildDeployment(gateway, settings, metadata, account),
    service: buildService(gateway, metadata),
  };
}

function objectMeta(gateway: GatewayObject, name: string): KubeMeta {
  const { namespace = '', uid = '', name: gatewayName = '' } = gateway.metadata ?? {};
  const { labels = {}, annotations = {} } = gateway.spec?.infrastructure ?? {};
  return {
    name,
    namespace,
    labels: { ...labels, ...gatewayLabels(gateway) },
    annotations: { ...annotations },
    ownerReferences: [
      {
        apiVersion: 'gateway.networking.k8s.io/v1',
        kind: 'Gateway',
        name: gatewayName,
        uid,
      },
    ],
  };
}

function gatewayLabels(gateway: GatewayObject): Record<string, string> {
  return {
    [GATEWAY_NAME_LABEL]: gateway.metadata?.name ?? '',
    [GATEWAY_CLASS_LABEL]: gateway.spec?.gatewayClassName ?? '',
    [MANAGED_LABEL]: MANAGED_VALUE,
  };
}

function buildService(gateway: GatewayObject, metadata: KubeMeta): KubeObject {
  const listeners = gateway.spec?.listeners ?? [];
  const spec = {
    type: 'ClusterIP',
    ipFamilyPolicy: 'PreferDualStack',
    selector: { [GATEWAY_NAME_LABEL]: gateway.metadata?.name ?? '' },
    ports: [
      { name: 'status-port', port: 15_021, protocol: 'TCP', appProtocol: 'tcp' },
      ...listeners.map(({ name, port, protocol }) => ({
        name,
        port,
        protocol: 'TCP',
        appProtocol: protocol.toLowerCase(),
      })),
    ],
  };
  const annotations = {
    ...metadata.annotations,
    'networking.istio.io/traffic-distribution': 'PreferClose',
  };
  return { metadata: { ...metadata, annotations }, spec } as KubeObject;
}

function buildDeployment(
  gateway: GatewayObject,
  settings: WaypointSettings,
  metadata: KubeMeta,
  account: string,
): KubeObject {
  const gatewayName = gateway.metadata?.name ?? '';
  const spec = {
    selector: { matchLabels: { [GATEWAY_NAME_LABEL]: gatewayName } },
    template: {
      metadata: {
        labels: {
          ...metadata.labels,
          'sidecar.istio.io/inject': 'false',
          'istio.io/dataplane-mode': 'none',
          'service.istio.io/canonical-name': metadata.name ?? '',
          'service.istio.io/canonical-revision': 'latest',
        },
        annotations: {
          ...metadata.annotations,
          'prometheus.io/scrape': 'true',
          'prometheus.io/port': '15020',
          'prometheus.io/path': '/stats/prometheus',
        },
      },
      spec: {
        serviceAccountName: account,
        automountServiceAccountToken: false,
        terminationGracePeriodSeconds: 30,
        containers: [buildContainer(gatewayName, settings)],
        volumes: [
          {
            name: 'istio-token',
            projected: {
              sources: [
                {
                  serviceAccountToken: {
                    audience: 'istio-ca',
                    expirationSeconds: 43_200,
                    path: 'istio-token',
                  },
                },
              ],
            },
          },
          { name: 'istiod-ca-cert', configMap: { name: 'istio-ca-root-cert' } },
          ...crlVolume(settings.crlConfigMap),
          { name: 'tmp', emptyDir: {} },
        ],
      },
    },
  };
  return { metadata, spec } as KubeObject;
}

function buildContainer(gatewayName: string, settings: WaypointSettings): object {
  const isCrlUsed = settings.crlConfigMap !== '';
  const probe = { httpGet: { path: '/healthz/ready', port: 15_021, scheme: 'HTTP' } };
  return {
    name: 'istio-proxy',
    image: settings.image,
    imagePullPolicy: settings.imagePullPolicy,
    ports: [
      { name: 'metrics', containerPort: 15_020, protocol: 'TCP' },
      { name: 'status-port', containerPort: 15_021, protocol: 'TCP' },
    ],
    startupProbe: { ...probe, periodSeconds: 1, failureThreshold: 30, timeoutSeconds: 1 },
    readinessProbe: { ...probe, periodSeconds: 15, failureThreshold: 4, timeoutSeconds: 1 },
    resources: {
      requests: { cpu: '100m', memory: '128Mi' },
      limits: { cpu: '2', memory: '1Gi' },
    },
    securityContext: {
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: PROXY_UID,
      runAsGroup: PROXY_UID,
      capabilities: { drop: ['ALL'] },
    },
    env: [
      { name: 'XDS_ADDRESS', value: settings.controlPlaneAddress },
      { name: 'CA_ADDRESS', value: settings.controlPlaneAddress },
      { name: 'GATEWAY_NAME', value: gatewayName },
      { name: 'TRUST_DOMAIN', value: settings.trustDomain },
      ...aliasesEnv(settings.trustDomainAliases),
      ...(isCrlUsed ? [{ name: 'CRL_PATH', value: `${CRL_DIR}/ca-crl.pem` }] : []),
      { name: 'ISTIO_META_CLUSTER_ID', value: settings.clusterId },
      fieldEnv('POD_NAME', 'metadata.name'),
      fieldEnv('POD_NAMESPACE', 'metadata.namespace'),
      fieldEnv('INSTANCE_IP', 'status.podIP'),
      fieldEnv('SERVICE_ACCOUNT', 'spec.serviceAccountName'),
      fieldEnv('NODE_NAME', 'spec.nodeName'),
    ],
    volumeMounts: [
      { name: 'istio-token', mountPath: '/var/run/secrets/tokens' },
      { name: 'istiod-ca-cert', mountPath: '/var/run/secrets/istio' },
      ...(isCrlUsed ? [{ name: CRL_VOLUME, mountPath: CRL_DIR }] : []),
      { name: 'tmp', mountPath: '/tmp' },
    ],
  };
}

/** Optional: a waypoint starts without it, and reads it when it comes. */
function crlVolume(name: string): object[] {
  return name === '' ? [] : [{ name: CRL_VOLUME, configMap: { name, optional: true } }];
}

function aliasesEnv(aliases: readonly string[]): object[] {
  return aliases.length === 0 ? [] : [{ name: 'TRUST_DOMAIN_ALIASES', value: aliases.join(',') }];
}

function fieldEnv(name: string, fieldPath: string): object {
  // With the API's default written out, a server-side apply finds nothing to change.
  return { name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } };
}
