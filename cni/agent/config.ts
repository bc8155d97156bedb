// The agent's configuration, from the environment variables of cni/agent/settings.ts.
import { EnvReader, type Env } from '../../common/env.ts';
import { readSettings } from '../../common/settings.ts';
import {
  DEFAULT_SELECTORS,
  type EligibilityOptions,
  type EnablementSelector,
} from '../rules/eligibility.ts';
import { SETTINGS } from './settings.ts';

export interface AgentConfig {
  readonly nodeName: string;
  readonly podNamespace: string;
  readonly eligibility: EligibilityOptions;
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
  readonly probeIpv4: string;
  readonly probeIpv6: string;
  readonly binDir: string;
  /** Bundled plugin to copy; undefined: agent and runtime share a file system. */
  readonly pluginDir: string | undefined;
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

function selectors(reader: EnvReader, text: string | undefined): readonly EnablementSelector[] {
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
  const values = readSettings(SETTINGS, reader);
  const config: AgentConfig = {
    nodeName: values.NODE_NAME,
    podNamespace: values.POD_NAMESPACE,
    eligibility: {
      systemNamespace: values.POD_NAMESPACE,
      excludedNamespaces: values.EXCLUDE_NAMESPACES,
      selectors: selectors(reader, values.ENABLEMENT_SELECTORS),
    },
    dnsCapture: values.AMBIENT_DNS_CAPTURE,
    ipv6: values.AMBIENT_IPV6,
    probeIpv4: values.HOST_PROBE_SNAT_IP,
    probeIpv6: values.HOST_PROBE_SNAT_IPV6,
    binDir: values.CNI_BIN_DIR,
    pluginDir: values.CNI_PLUGIN_DIR,
    netDir: values.CNI_NET_DIR,
    confName: values.CNI_CONF_NAME,
    runDir: values.CNI_AGENT_RUN_DIR,
    nodeRunDir: values.CNI_NODE_RUN_DIR,
    netnsDir: values.CNI_NETNS_DIR,
    zdsPath: values.ZTUNNEL_UDS_ADDRESS,
    serviceAccountDir: values.SERVICE_ACCOUNT_DIR,
    serviceHost: values.KUBERNETES_SERVICE_HOST,
    servicePort: values.KUBERNETES_SERVICE_PORT,
    kubeconfig: values.KUBECONFIG,
    metricsPort: values.MONITORING_PORT,
    healthPort: values.HEALTH_PORT,
    logLevel: values.LOG_LEVEL,
    leaveDrainMs: values.AMBIENT_LEAVE_DRAIN,
  };
  reader.finish();
  return config;
}
