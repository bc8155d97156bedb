// Fields that Istio or the Gateway API define and this mesh does not serve, by message and JSON name. They are
// reported as unsupported rather than unknown, and what they would have done does not happen.

type FieldNotes = Readonly<Record<string, string>>;

const NETWORKING = 'istio.networking.v1alpha3';
const GATEWAY = 'ambientmesh.gatewayapi';

const UNSUPPORTED: Readonly<Record<string, FieldNotes>> = {
  [`${NETWORKING}.VirtualService`]: {
    tls: 'TLS routes are not served; TLS ports are relayed as TCP',
  },
  [`${NETWORKING}.HTTPRoute`]: { corsPolicy: 'CORS is not served' },
  [`${NETWORKING}.HTTPMatchRequest`]: { statPrefix: 'statistics prefixes are not served' },
  [`${NETWORKING}.L4MatchAttributes`]: {
    destinationSubnets: 'destination subnets are not matched',
    sourceSubnet: 'source subnets are not matched',
  },
  [`${NETWORKING}.HTTPRedirect`]: { prefixRewrite: 'prefix redirects are not served' },
  [`${NETWORKING}.HTTPRetry`]: {
    retryRemoteLocalities: 'retries are not bound to localities',
    retryIgnorePreviousHosts: 'a retry always prefers another endpoint',
  },
  [`${NETWORKING}.HTTPFaultInjection.Delay`]: {
    exponentialDelay: 'only fixed delays are served',
  },
  [`${NETWORKING}.HTTPFaultInjection.Abort`]: { http2Error: 'HTTP/2 errors are not injected' },
  [`${NETWORKING}.DestinationRule`]: {
    workloadSelector: 'a destination rule cannot be bound to clients in ambient mode',
  },
  [`${NETWORKING}.TrafficPolicy`]: {
    tunnel: 'tunnelling through a proxy is not served',
    proxyProtocol: 'PROXY protocol is not sent',
    retryBudget: 'retry budgets are not served',
  },
  [`${NETWORKING}.LoadBalancerSettings`]: {
    consistentHash: 'consistent hashing is not served',
    localityLbSetting: 'locality weights are not served; use traffic distribution',
    zoneAwareLbSetting: 'zone-aware balancing is not served',
    warmup: 'warm-up is not served',
    warmupDurationSecs: 'warm-up is not served',
  },
  [`${NETWORKING}.ConnectionPoolSettings.TCPSettings`]: {
    tcpKeepalive: 'keepalive probes are not configurable',
    maxConnectionDuration: 'connection age is not limited',
    idleTimeout: 'idle time of TCP connections is not configurable',
  },
  [`${NETWORKING}.ConnectionPoolSettings.HTTPSettings`]: {
    maxRetries: 'concurrent retries are not limited',
    idleTimeout: 'idle time of connections is not configurable',
    useClientProtocol: 'the protocol of the port decides',
    maxConcurrentStreams: 'stream limits are not configurable',
    http2KeepAlive: 'HTTP/2 keepalive is not configurable',
  },
  [`${NETWORKING}.OutlierDetection`]: {
    consecutiveErrors: 'removed by Istio; use consecutive5xxErrors',
    splitExternalLocalOriginErrors: 'local and remote errors are counted together',
    consecutiveLocalOriginFailures: 'local and remote errors are counted together',
    outlierDetectionHttpErrorCodes: 'error codes are not configurable',
  },
  [`${NETWORKING}.ClientTLSSettings`]: {
    clientCertificate: 'TLS origination is not served',
    privateKey: 'TLS origination is not served',
    caCertificates: 'TLS origination is not served',
    subjectAltNames: 'TLS origination is not served',
    sni: 'TLS origination is not served',
    credentialName: 'TLS origination is not served',
    insecureSkipVerify: 'TLS origination is not served',
    caCrl: 'TLS origination is not served',
  },
  'istio.security.v1beta1.AuthorizationPolicy': {
    provider: 'external authorization providers are not served',
  },
  [`${GATEWAY}.HTTPRoute`]: { useDefaultGateways: 'default gateways are not served' },
  [`${GATEWAY}.HTTPRouteRule`]: { sessionPersistence: 'session persistence is not served' },
  [`${GATEWAY}.HTTPRouteFilter`]: {
    cors: 'CORS is not served',
    extensionRef: 'extension filters are not served',
    externalAuth: 'external authorization is not served',
  },
};

// Known, without effect by nature: present in ordinary objects, so not worth a finding.
const SILENT: Readonly<Record<string, readonly string[]>> = {
  [`${GATEWAY}.GatewayClass`]: ['description', 'parametersRef'],
  [`${GATEWAY}.Gateway`]: [
    'addresses',
    'infrastructure',
    'allowedListeners',
    'tls',
    'defaultScope',
    'backendTLS',
  ],
  [`${GATEWAY}.Listener`]: ['hostname', 'tls'],
  [`${GATEWAY}.AllowedRoutes`]: ['kinds'],
  [`${GATEWAY}.GatewayStatus`]: ['conditions', 'listeners', 'attachedListenerSets'],
};

/** Why a field of a message is not served, if it is one that the API defines. */
export function unsupportedNote(typeName: string, jsonName: string): string | undefined {
  const notes = UNSUPPORTED[typeName];
  return notes !== undefined && Object.hasOwn(notes, jsonName) ? notes[jsonName] : undefined;
}

/** True for fields that are left alone without a finding. */
export function isSilentField(typeName: string, jsonName: string): boolean {
  return SILENT[typeName]?.includes(jsonName) ?? false;
}
