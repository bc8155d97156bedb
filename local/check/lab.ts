// A namespace of its own for the checks that look at packets and identities: a client on one node, a server on the
// other, outside the mesh at first.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KubeObject } from '../../common/kube/resource.ts';
import { PacketCapture } from '../../engine/reactor/packet-capture.ts';
import type { Pod } from '../cluster-api.ts';
import { fail, type Bench } from './bench.ts';
import { carriesText } from './frames.ts';

export const LAB = 'check';
export const MODE = 'istio.io/dataplane-mode';
export const REDIRECTION = 'ambient.istio.io/redirection';
export const SERVER_URL = 'http://server.check:8000';

interface LabPod {
  readonly name: string;
  readonly node: string;
  readonly image: string;
  readonly command?: readonly string[];
}

function deployment({ name, node, image, command }: LabPod): KubeObject[] {
  const labels = { app: name };
  const container = { name, image, ...(command === undefined ? {} : { command }) };
  const template = {
    metadata: { labels },
    spec: {
      serviceAccountName: name,
      nodeName: node,
      terminationGracePeriodSeconds: 0,
      containers: [container],
    },
  };
  return [
    {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name, namespace: LAB },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, namespace: LAB },
      spec: { replicas: 1, selector: { matchLabels: labels }, template },
    } as KubeObject,
  ];
}

const OBJECTS: readonly KubeObject[] = [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: LAB } },
  ...deployment({ name: 'server', node: 'ambient-b', image: 'ambient-mesh/httpbin' }),
  ...deployment({
    name: 'client',
    node: 'ambient-a',
    image: 'curlimages/curl',
    command: ['/bin/sleep', 'infinity'],
  }),
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'server', namespace: LAB },
    spec: {
      ipFamilyPolicy: 'PreferDualStack',
      selector: { app: 'server' },
      ports: [{ name: 'http', port: 8000, targetPort: 8080 }],
    },
  } as KubeObject,
];

export interface Lab {
  readonly client: Pod;
  readonly server: Pod;
}

/** Makes the lab, or finds it; waits until the server answers the client. */
export async function openLab(bench: Bench): Promise<Lab> {
  const namespaces = await bench.api.client.json<{ items: KubeObject[] }>({
    method: 'GET',
    path: '/api/v1/namespaces',
  });
  const exists = namespaces.items.some(({ metadata }) => metadata?.name === LAB);
  if (!exists) await bench.api.apply(OBJECTS, bench.signal);
  return bench.until('the lab', async () => {
    const client = await bench.pod(LAB, 'client');
    const server = await bench.pod(LAB, 'server');
    const { status } = await bench.get(client, `${SERVER_URL}/get`);
    return status === 200 ? { client, server } : undefined;
  });
}

/** The IPv6 address of the lab's Service. */
export async function serverAddressV6(bench: Bench): Promise<string> {
  const path = `/api/v1/namespaces/${LAB}/services/server`;
  const { spec } = await bench.api.client.json<{ spec: { clusterIPs?: string[] } }>({ path });
  return spec.clusterIPs?.find((address) => address.includes(':')) ?? fail('no IPv6 address');
}

/** Puts the lab into the mesh or takes it out, and waits until the node agents have done it. */
export async function setEnrolled(bench: Bench, isEnrolled: boolean): Promise<void> {
  await bench.api.labelNamespace(LAB, { [MODE]: isEnrolled ? 'ambient' : null });
  await bench.until(
    isEnrolled ? 'enrolment' : 'leaving',
    async () => {
      const pods = await bench.api.pods(LAB);
      const states = pods.map(({ metadata }) => metadata?.annotations?.[REDIRECTION] === 'enabled');
      return states.length > 0 && states.every((state) => state === isEnrolled) ? true : undefined;
    },
    30_000,
  );
}

/** Captures what crosses the bridge from or to the first node while `work` runs. */
export async function captureBridge(
  bench: Bench,
  work: () => Promise<unknown>,
): Promise<readonly Buffer[]> {
  const instance = readFileSync(join(bench.stateDir, 'instance'), 'utf8').trim();
  const capture = new PacketCapture(`amb${instance}n0`);
  try {
    await work();
    await bench.sleep(20);
  } finally {
    capture.close();
  }
  return capture.frames;
}

let lastMarker = 0;

/** One request with a marker in path and answer; tells whether the marker was seen on the bridge. */
export async function probeBridge(
  bench: Bench,
  lab: Lab,
  base = SERVER_URL,
): Promise<{
  readonly isPlain: boolean;
  readonly frames: readonly Buffer[];
  readonly status: number;
}> {
  const marker = `marker-${process.pid}-${++lastMarker}-plain`;
  let status = 0;
  const frames = await captureBridge(bench, async () => {
    ({ status } = await bench.get(lab.client, `${base}/anything/${marker}`));
  });
  return { isPlain: carriesText(frames, marker), frames, status };
}

/**
 * Waits until requests cross the bridge as plaintext, or until they do not. A pod that leaves is still redirected
 * when its annotation has gone: until every proxy knows.
 */
export async function expectPlain(
  bench: Bench,
  lab: Lab,
  isPlain: boolean,
  base = SERVER_URL,
): Promise<void> {
  await bench.until(
    isPlain ? 'plaintext on the bridge' : 'no plaintext on the bridge',
    async () => {
      const probe = await probeBridge(bench, lab, base);
      return probe.status === 200 && probe.isPlain === isPlain ? true : undefined;
    },
  );
}
