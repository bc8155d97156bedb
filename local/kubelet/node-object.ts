// Registers the Node object and keeps its heartbeat: the Lease and the Ready condition.
import { cpus, totalmem } from 'node:os';
import { sleep, systemClock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import { log } from './log.ts';
import type { NodeContext } from './node-context.ts';

const HEARTBEAT_MS = 10_000;
const LEASE_SECONDS = 40;

function stamp(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, 'Z');
}

function nodeStatus(context: NodeContext): object {
  const { address, name, kubeletPort } = context.config;
  const resources = {
    cpu: String(cpus().length),
    memory: `${Math.floor(totalmem() / 1024)}Ki`,
    pods: '250',
    'ephemeral-storage': '10Gi',
  };
  return {
    capacity: resources,
    allocatable: resources,
    addresses: [
      { type: 'InternalIP', address },
      { type: 'Hostname', address: name },
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'KubeletReady',
        message: 'the node runs pods',
        lastHeartbeatTime: stamp(),
        lastTransitionTime: stamp(),
      },
    ],
    nodeInfo: {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      operatingSystem: 'linux',
      kubeletVersion: 'v1.35.0',
      kubeProxyVersion: 'v1.35.0',
      containerRuntimeVersion: 'local://1.0.0',
      kernelVersion: '',
      osImage: 'ambient-mesh local',
      machineID: '',
      systemUUID: '',
      bootID: '',
    },
  };
}

async function createIfMissing(context: NodeContext, path: string, body: object): Promise<void> {
  try {
    await context.api.create(path, body);
  } catch (err) {
    if (!isKubeStatus(err, 409)) throw err;
  }
}

async function register(context: NodeContext): Promise<void> {
  const { name, podCidr } = context.config;
  const labels = {
    'kubernetes.io/hostname': name,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': process.arch === 'x64' ? 'amd64' : process.arch,
    'topology.kubernetes.io/region': 'local',
    'topology.kubernetes.io/zone': name,
  };
  const spec = { podCIDR: podCidr, podCIDRs: [podCidr] };
  await createIfMissing(context, '/api/v1/nodes', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels },
    spec,
  });
  await context.api.patch(`/api/v1/nodes/${name}`, {
    metadata: { labels },
    spec: { taints: null },
  });
  // The range of a node cannot change once set; a node of an earlier run may have another one.
  await context.api.patch(`/api/v1/nodes/${name}`, { spec }).catch((err: unknown) => {
    log.warn({ err: errorMessage(err) }, 'pod range of the node not updated');
  });
  await context.api.patch(`/api/v1/nodes/${name}/status`, { status: nodeStatus(context) });
  await createIfMissing(context, '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases', {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name, namespace: 'kube-node-lease' },
    spec: { holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime: microStamp() },
  }).catch((err: unknown) => log.debug({ err: errorMessage(err) }, 'no node lease'));
}

function microStamp(): string {
  return new Date().toISOString().replace('Z', '000Z');
}

/** Registers, retried until it works, then beats until the signal aborts. */
export async function runNodeObject(context: NodeContext, signal: AbortSignal): Promise<void> {
  const { name } = context.config;
  let isRegistered = false;
  while (!signal.aborted) {
    try {
      if (!isRegistered) {
        await register(context);
        isRegistered = true;
        log.info({ node: name }, 'node registered');
      } else {
        await context.api.patch(
          `/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${name}`,
          { spec: { renewTime: microStamp() } },
        );
      }
    } catch (err) {
      log.warn({ node: name, err: errorMessage(err) }, 'node heartbeat failed');
      if (isKubeStatus(err, 404)) isRegistered = false;
    }
    await sleep(systemClock, isRegistered ? HEARTBEAT_MS : 300, signal).catch(() => undefined);
  }
}
