// Asks the API server about a pod and its namespace with the kubeconfig the agent wrote. That file is JSON
// (which is YAML), so no parser is needed here.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import type { EligiblePod } from '../rules/eligibility.ts';

const TIMEOUT_MS = 5000;
const MAX_ANSWER_BYTES = 4 << 20;

interface Kubeconfig {
  readonly clusters: readonly {
    readonly cluster: {
      readonly server: string;
      readonly 'certificate-authority-data'?: string;
    };
  }[];
  readonly users: readonly { readonly user: { readonly token: string } }[];
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function get(path: string, kubeconfig: Kubeconfig): Promise<Answer> {
  const cluster = kubeconfig.clusters[0]?.cluster;
  const token = kubeconfig.users[0]?.user.token;
  if (cluster === undefined || token === undefined) throw new Error('the kubeconfig is incomplete');
  const ca = cluster['certificate-authority-data'];
  return new Promise((resolve, reject) => {
    const call = request(new URL(path, cluster.server), {
      headers: { authorization: `Bearer ${token}`, accept: 'application/json' },
      timeout: TIMEOUT_MS,
      ...(ca === undefined ? {} : { ca: Buffer.from(ca, 'base64') }),
    });
    call.on('timeout', () => call.destroy(new Error('the API server did not answer in time')));
    call.on('error', reject);
    call.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_ANSWER_BYTES) call.destroy(new Error('answer too large'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', reject);
    });
    call.end();
  });
}

async function read(path: string, kubeconfig: Kubeconfig): Promise<EligiblePod> {
  const { status, text } = await get(path, kubeconfig);
  if (status !== 200) throw new Error(`GET ${path} answered ${status}`);
  return JSON.parse(text) as EligiblePod;
}

/** The pod and the labels of its namespace; throws when either cannot be had. */
export async function lookUpPod(
  kubeconfigPath: string,
  namespace: string,
  name: string,
): Promise<{ pod: EligiblePod; namespaceLabels: Readonly<Record<string, string>> }> {
  const kubeconfig = JSON.parse(readFileSync(kubeconfigPath, 'utf8')) as Kubeconfig;
  const [pod, object] = await Promise.all([
    read(`/api/v1/namespaces/${namespace}/pods/${name}`, kubeconfig),
    read(`/api/v1/namespaces/${namespace}`, kubeconfig),
  ]);
  return { pod, namespaceLabels: object.metadata.labels ?? {} };
}
