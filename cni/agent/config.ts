// The agent's configuration: environment variables, named as Istio's where Istio has one.
import { EnvReader, type Env } from '../../common/env.ts';
import {
  DEFAULT_SELECTORS,
  type EligibilityOptions,
  type EnablementSelector,
} from '../rules/eligibility.ts';
import { HOST_PROBE_IPV4, HOST_PROBE_IPV6 } from '../rules/marks.ts';

export interface AgentConfig {
  readonly nodeName: string;
  readonly podNamespace: string;
  readonly eligibility: EligibilityOptions;
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
  readonly probeIpv4: string;
  readonly probeIpv6: string;
  readonly binDir: string;
  readonly netDir: string;
  readonly confName: string | undefined;
  readonly runDir: string;
  /** The run directory as the plugin sees it, on the node. */
  readonly nodeRunDir: string;
  readonly netnsDir: string;
  readonly zdsPath: string;
  readonly serviceAccountDir: string;
  readonly serviceHost: string | undefined;
  readonly servicePort: string;
  readonly kubeconfig: string | undefined;
  readonly metricsPort: number;
  readonly healthPort: number;
  readonly logLevel: string;
  /** How long established connections of a leaving pod may keep it in the mesh. */
  readonly leaveDrainMs: number;
}

function selectors(reader: EnvReader): readonly EnablementSelector[] {
  const text = reader.optional('ENABLEMENT_SELECTORS');
  if (text === undefined) return DEFAULT_SELECTORS;
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value)) return value as EnablementSelector[];
  } catch {
    // Reported below, like any other value that is not a list.
  }
  reader.problem('ENABLEMENT_SELECTORS', 'must be a JSON list of selectors');
  return DEFAULT_SELECTORS;
}

/** Reads the configuration; throws one error with all problems. */
export function readConfig(env: Env): AgentConfig {
  const reader = new EnvReader(env);
  const podNamespace = reader.string('POD_NAMESPACE', 'istio-system');
  const config: AgentConfig = {
    nodeName: reader.required('NODE_NAME'),
    podNamespace,
    eligibility: {
      systemNamespace: podNamespace,
      excludedNamespaces: reader
        .string('EXCLUDE_NAMESPACES', 'kube-system')
        .split(',')
        .filter((name) => name !== ''),
      selectors: selectors(reader),
    },
    dnsCapture: reader.boolean('AMBIENT_DNS_CAPTURE', true),
    ipv6: reader.boolean('AMBIENT_IPV6', true),
    probeIpv4: reader.string('HOST_PROBE_SNAT_IP', HOST_PROBE_IPV4),
    probeIpv6: reader.string('HOST_PROBE_SNAT_IPV6', HOST_PROBE_IPV6),
    binDir: reader.string('CNI_BIN_DIR', '/host/opt/cni/bin'),
    netDir: reader.string('CNI_NET_DIR', '/host/etc/cni/net.d'),
    confName: reader.optional('CNI_CONF_NAME'),
    runDir: reader.string('CNI_AGENT_RUN_DIR', '/var/run/istio-cni'),
    nodeRunDir: reader.string('CNI_NODE_RUN_DIR', '/var/run/istio-cni'),
    netnsDir: reader.string('CNI_NETNS_DIR', '/host/var/run/netns'),
    zdsPath: reader.string('ZTUNNEL_UDS_ADDRESS', '/var/run/ztunnel/ztunnel.sock'),
    serviceAccountDir: reader.string(
      'SERVICE_ACCOUNT_DIR',
      '/var/run/secrets/kubernetes.io/serviceaccount',
    ),
    serviceHost: reader.optional('KUBERNETES_SERVICE_HOST'),
    servicePort: reader.string('KUBERNETES_SERVICE_PORT', '443'),
    kubeconfig: reader.optional('KUBECONFIG'),
    metricsPort: reader.integer('MONITORING_PORT', 15_014, 0, 65_535),
    healthPort: reader.integer('HEALTH_PORT', 8000, 0, 65_535),
    logLevel: reader.string('LOG_LEVEL', 'info'),
    leaveDrainMs: reader.durationMs('AMBIENT_LEAVE_DRAIN', 3_600_000),
  };
  reader.finish();
  return config;
}
