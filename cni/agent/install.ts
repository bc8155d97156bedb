// Installs the plugin on the node: the program, a kubeconfig for it, its entry in the CNI configuration. Looks
// again every two seconds and repairs what someone else changed. The kubeconfig has a token of its own, not the one
// of this pod: that one is refused once the pod is gone, and then pods outside the mesh could not start either.
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, type Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import type { AgentConfig } from './config.ts';
import { chainEntry, isConfig, PLUGIN_TYPE, unchainEntry } from './conf-list.ts';
import type { AgentMetrics } from './metrics.ts';
import { installPlugin, readOrUndefined, removePlugin, writeIfChanged } from './plugin-files.ts';

const CHECK_MS = 2000;
const TOKEN_RETRY_MS = 10_000;

/** A token for the plugin; `renewAtMs` is when to ask for the next. */
export interface PluginToken {
  readonly token: string;
  readonly renewAtMs: number;
}

export interface InstallerOptions {
  readonly config: AgentConfig;
  readonly logger: Logger;
  readonly metrics: AgentMetrics;
  readonly clock: Clock;
  readonly requestToken: () => Promise<PluginToken>;
}

export class Installer {
  readonly #config: AgentConfig;
  readonly #logger: Logger;
  readonly #metrics: AgentMetrics;
  readonly #clock: Clock;
  readonly #requestToken: () => Promise<PluginToken>;
  #token: PluginToken | undefined;
  isInstalled = false;

  constructor(options: InstallerOptions) {
    this.#config = options.config;
    this.#logger = options.logger;
    this.#metrics = options.metrics;
    this.#clock = options.clock;
    this.#requestToken = options.requestToken;
  }

  /** Installs, then repairs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#renewToken();
        this.#install();
      } catch (err) {
        this.isInstalled = false;
        this.#metrics.count('istio_cni_installs_total', 'result="FAILURE"');
        this.#logger.warn({ err: errorMessage(err) }, 'plugin not installed');
      }
      this.#metrics.set('istio_cni_install_ready', this.isInstalled ? 1 : 0);
      const delayMs = this.isInstalled ? CHECK_MS : CHECK_MS / 10;
      await sleep(this.#clock, delayMs, signal).catch(() => undefined);
    }
  }

  /** Takes everything off the node again. */
  uninstall(): void {
    const { netDir, binDir, runDir } = this.#config;
    for (const name of readdirSync(netDir)) {
      const path = join(netDir, name);
      const text = readOrUndefined(path) ?? '';
      const without = text.includes(PLUGIN_TYPE) ? unchainEntry(text) : undefined;
      if (without !== undefined) writeIfChanged(path, without, statSync(path).mode & 0o777);
    }
    rmSync(join(runDir, 'istio-cni-kubeconfig'), { force: true });
    removePlugin(binDir);
    this.#logger.info({}, 'plugin removed from the node');
  }

  async #renewToken(): Promise<void> {
    const now = this.#clock.now();
    if (this.#token !== undefined && now < this.#token.renewAtMs) return;
    try {
      this.#token = await this.#requestToken();
    } catch (err) {
      this.#logger.warn(
        { err: errorMessage(err) },
        'no token for the plugin, using that of the pod',
      );
      const path = join(this.#config.serviceAccountDir, 'token');
      const token = readFileSync(path, 'utf8').trim();
      this.#token = { token, renewAtMs: now + TOKEN_RETRY_MS };
    }
  }

  #install(): void {
    const { netDir, binDir, runDir, pluginDir } = this.#config;
    const name = this.#configFile();
    if (name === undefined) {
      this.isInstalled = false;
      return;
    }
    for (const dir of [binDir, runDir]) mkdirSync(dir, { recursive: true });
    let changed = installPlugin(binDir, pluginDir);
    const kubeconfig = join(runDir, 'istio-cni-kubeconfig');
    writeIfChanged(kubeconfig, this.#kubeconfig(), 0o600);
    const path = join(netDir, name);
    const chained = chainEntry(readFileSync(path, 'utf8'), this.#entry()) ?? '';
    const target = path.replace(/\.conf$/, '.conflist');
    changed = writeIfChanged(target, chained, statSync(path).mode & 0o777) || changed;
    if (target !== path) rmSync(path);
    if (changed) {
      this.#metrics.count('istio_cni_installs_total', 'result="SUCCESS"');
      this.#logger.info({ config: target }, 'plugin installed');
    }
    this.isInstalled = true;
  }

  #configFile(): string | undefined {
    const { netDir, confName } = this.#config;
    const usable = (name: string): boolean =>
      /\.(conf|conflist)$/.test(name) && isConfig(readOrUndefined(join(netDir, name)) ?? '');
    if (confName !== undefined) return usable(confName) ? confName : undefined;
    return readdirSync(netDir).toSorted().find(usable);
  }

  #entry(): Readonly<Record<string, unknown>> {
    const { eligibility, nodeRunDir, podNamespace } = this.#config;
    return {
      name: PLUGIN_TYPE,
      type: PLUGIN_TYPE,
      plugin_log_level: 'info',
      cni_agent_run_dir: nodeRunDir,
      ambient_enabled: true,
      enablement_selectors: eligibility.selectors,
      exclude_namespaces: eligibility.excludedNamespaces,
      pod_namespace: podNamespace,
      native_nftables: true,
    };
  }

  /** JSON is YAML; the plugin has no YAML parser. */
  #kubeconfig(): string {
    const { serviceAccountDir, serviceHost = '', servicePort } = this.#config;
    const host = serviceHost.includes(':') ? `[${serviceHost}]` : serviceHost;
    const ca = readFileSync(join(serviceAccountDir, 'ca.crt')).toString('base64');
    const token = this.#token?.token ?? '';
    const server = `https://${host}:${servicePort}`;
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'local', cluster: { server, 'certificate-authority-data': ca } }],
      users: [{ name: PLUGIN_TYPE, user: { token } }],
      contexts: [{ name: 'context', context: { cluster: 'local', user: PLUGIN_TYPE } }],
      'current-context': 'context',
    };
    return JSON.stringify(config, null, 2) + '\n';
  }
}
