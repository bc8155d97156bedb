// The node agent's environment variables, with Istio's names where Istio has one. docs/config.md is generated from
// here.
import {
  duration,
  flag,
  list,
  optionalText,
  port,
  requiredText,
  text,
} from '../../common/settings.ts';
import { HOST_PROBE_IPV4, HOST_PROBE_IPV6 } from '../rules/marks.ts';

/** Everything the node agent reads. */
export const SETTINGS = {
  NODE_NAME: requiredText('name of this node'),
  POD_NAMESPACE: text('namespace of the mesh, whose pods are never enrolled', 'istio-system'),
  EXCLUDE_NAMESPACES: list('namespaces whose pods are never enrolled', 'kube-system'),
  ENABLEMENT_SELECTORS: optionalText(
    'JSON list of {podSelector, namespaceSelector}: pods that one of them matches are enrolled',
    'by the label istio.io/dataplane-mode=ambient',
  ),
  AMBIENT_DNS_CAPTURE: flag('redirect the pods’ DNS to the node proxy', true),
  AMBIENT_IPV6: flag('write rules for IPv6 too', true),
  HOST_PROBE_SNAT_IP: text(
    'source address by which pods tell the kubelet’s probes',
    HOST_PROBE_IPV4,
  ),
  HOST_PROBE_SNAT_IPV6: text('the same for IPv6', HOST_PROBE_IPV6),
  CNI_BIN_DIR: text('where the plugin is installed, as mounted', '/host/opt/cni/bin'),
  CNI_PLUGIN_DIR: optionalText(
    'folder of the bundled plugin to copy onto the node (in the image: /app/plugin)',
    'the plugin runs from where the agent does',
  ),
  CNI_NET_DIR: text('folder of the CNI configuration, as mounted', '/host/etc/cni/net.d'),
  CNI_CONF_NAME: optionalText('the configuration file to add the plugin to', 'the first by name'),
  CNI_AGENT_RUN_DIR: text('folder of the plugin’s socket and files', '/var/run/istio-cni'),
  CNI_NODE_RUN_DIR: text(
    'the same folder as the plugin sees it, on the node',
    '/var/run/istio-cni',
  ),
  CNI_NETNS_DIR: text('folder of the pods’ network namespaces, as mounted', '/host/var/run/netns'),
  ZTUNNEL_UDS_ADDRESS: text('socket the node proxy connects to', '/var/run/ztunnel/ztunnel.sock'),
  SERVICE_ACCOUNT_DIR: text(
    'folder of this pod’s token and root certificate',
    '/var/run/secrets/kubernetes.io/serviceaccount',
  ),
  KUBERNETES_SERVICE_HOST: optionalText('in a pod: host of the API server'),
  KUBERNETES_SERVICE_PORT: text('in a pod: port of the API server', '443'),
  KUBECONFIG: optionalText('outside a pod: how to reach the API server'),
  MONITORING_PORT: port('metrics', 15_014),
  HEALTH_PORT: port('readiness', 8000),
  AMBIENT_LEAVE_DRAIN: duration(
    'how long established connections of a leaving pod may keep it in the mesh',
    '1h',
  ),
  LOG_LEVEL: text('log level, or levels by scope: info,xds=debug', 'info'),
};
