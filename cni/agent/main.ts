// The CNI node agent (Istio's istio-cni-node): enrols this node's pods in the mesh and keeps them enrolled.
import { errorMessage } from '../../common/errors.ts';
import { createLoggerRoot } from '../../common/telemetry/logger.ts';
import { Agent } from './app.ts';
import { readConfig } from './config.ts';

const HELP = `The CNI node agent of the mesh. Configured by environment variables:

  NODE_NAME (required), POD_NAMESPACE, EXCLUDE_NAMESPACES, ENABLEMENT_SELECTORS, AMBIENT_DNS_CAPTURE,
  AMBIENT_IPV6, HOST_PROBE_SNAT_IP, HOST_PROBE_SNAT_IPV6, CNI_BIN_DIR, CNI_NET_DIR, CNI_CONF_NAME,
  CNI_AGENT_RUN_DIR, CNI_NODE_RUN_DIR, CNI_NETNS_DIR, ZTUNNEL_UDS_ADDRESS, MONITORING_PORT, HEALTH_PORT,
  AMBIENT_LEAVE_DRAIN, KUBECONFIG, LOG_LEVEL
`;

async function run(): Promise<void> {
  const config = readConfig(process.env);
  const root = createLoggerRoot({ level: config.logLevel });
  const logger = root.scope('cni');
  try {
    const agent = await Agent.start(config, root);
    const signal = await new Promise<string>((resolve) => {
      for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => resolve(name));
    });
    logger.info({ signal }, 'stopping');
    await agent.close();
    process.exit(0);
  } catch (err) {
    logger.error({ err: errorMessage(err) }, 'cni agent failed');
    process.exit(1);
  }
}

if (process.argv.includes('--help')) process.stdout.write(HELP);
else await run();
