// The agent's metrics, by Istio's names, as Prometheus text.

interface Family {
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly values: Map<string, number>;
}

const FAMILIES: Readonly<Record<string, readonly ['counter' | 'gauge', string]>> = {
  istio_cni_installs_total: ['counter', 'Number of CNI plugin installations'],
  istio_cni_install_ready: ['gauge', 'Whether the CNI plugin is installed and ready'],
  istio_cni_plugin_requests_total: ['counter', 'Requests of the CNI plugin by answer'],
  nodeagent_reconcile_events_total: ['counter', 'Changes of pods that were worked on'],
  ztunnel_connected: ['gauge', 'Number of connected node proxies'],
  ambient_enrolled_pods: ['gauge', 'Pods of this node in the mesh'],
};

export type MetricName = keyof typeof FAMILIES;

export class AgentMetrics {
  readonly #families = new Map<string, Family>();

  constructor() {
    for (const [name, [type, help]] of Object.entries(FAMILIES)) {
      this.#families.set(name, { help, type, values: new Map() });
    }
  }

  /** Adds one to a counter; `labels` is ready text such as `result="SUCCESS"`. */
  count(name: MetricName, labels = ''): void {
    const values = this.#families.get(name)?.values;
    values?.set(labels, (values.get(labels) ?? 0) + 1);
  }

  set(name: MetricName, value: number): void {
    this.#families.get(name)?.values.set('', value);
  }

  render(): string {
    const lines: string[] = [];
    for (const [name, { help, type, values }] of this.#families) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      for (const [labels, value] of values) {
        lines.push(`${name}${labels === '' ? '' : `{${labels}}`} ${value}`);
      }
    }
    return lines.join('\n') + '\n';
  }
}
