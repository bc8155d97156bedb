// Which pods belong into the mesh: Istio's rules in Istio's order, first hit decides. Pure; used by the agent
// and, without any package, by the plugin.
import { matchesSelector, type LabelSelector } from '../../common/label-selector.ts';

export interface EligiblePod {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: { readonly hostNetwork?: boolean };
  readonly status?: { readonly phase?: string };
}

export interface EnablementSelector {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
}

export interface EligibilityOptions {
  readonly systemNamespace: string;
  readonly excludedNamespaces: readonly string[];
  readonly selectors: readonly EnablementSelector[];
}

export const DATAPLANE_LABEL = 'istio.io/dataplane-mode';
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';
export const LEAVING_ANNOTATION = 'ambient-mesh.io/leaving';
export const WITHDRAWN_ANNOTATION = 'ambient-mesh.io/withdrawn';

export const DEFAULT_SELECTORS: readonly EnablementSelector[] = [
  { podSelector: { matchLabels: { [DATAPLANE_LABEL]: 'ambient' } } },
  {
    podSelector: {
      matchExpressions: [{ key: DATAPLANE_LABEL, operator: 'NotIn', values: ['none'] }],
    },
    namespaceSelector: { matchLabels: { [DATAPLANE_LABEL]: 'ambient' } },
  },
];

/** Whether the pod must be in the mesh, and the rule that decided. */
export function decideEligibility(
  pod: EligiblePod,
  namespaceLabels: Readonly<Record<string, string>>,
  options: EligibilityOptions,
): { readonly isEligible: boolean; readonly reason: string } {
  const labels = pod.metadata.labels ?? {};
  const namespace = pod.metadata.namespace ?? '';
  const no = (reason: string): { isEligible: boolean; reason: string } => ({
    isEligible: false,
    reason,
  });
  if (pod.spec?.hostNetwork === true) return no('host_network');
  if (pod.metadata.annotations?.['sidecar.istio.io/status'] !== undefined) return no('sidecar');
  if (labels['app'] === 'ztunnel' && namespace === options.systemNamespace) return no('ztunnel');
  if (options.excludedNamespaces.includes(namespace)) return no('excluded_namespace');
  if (['Succeeded', 'Failed'].includes(pod.status?.phase ?? '')) return no('finished');
  const isSelected = options.selectors.some(
    ({ podSelector, namespaceSelector }) =>
      matchesSelector(labels, podSelector) && matchesSelector(namespaceLabels, namespaceSelector),
  );
  return isSelected ? { isEligible: true, reason: 'selected' } : no('not_selected');
}
