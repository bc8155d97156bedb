// The parts of pods and namespaces the agent reads.
import type { KubeObject } from '../../common/kube/resource.ts';
import type { EligiblePod } from '../rules/eligibility.ts';

export interface Pod extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string;
    readonly hostNetwork?: boolean;
    readonly serviceAccountName?: string;
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
  };
}

/** A pod reduced to what the agent works with. */
export interface PodRef {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly ips: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly isFinished: boolean;
}

/** Reads a pod object. */
export function podRef(pod: Pod): PodRef {
  const { uid = '', name = '', namespace = '', annotations = {} } = pod.metadata ?? {};
  const { podIPs, podIP, phase = '' } = pod.status ?? {};
  return {
    uid,
    name,
    namespace,
    serviceAccount: pod.spec?.serviceAccountName ?? 'default',
    ips: podIPs?.map(({ ip }) => ip) ?? (podIP === undefined ? [] : [podIP]),
    annotations,
    isFinished: phase === 'Succeeded' || phase === 'Failed',
  };
}

/** The pod in the form the eligibility rules take. */
export function eligiblePod(pod: Pod): EligiblePod {
  const { name = '', namespace = '', labels = {}, annotations = {} } = pod.metadata ?? {};
  return {
    metadata: { name, namespace, labels, annotations },
    ...(pod.spec === undefined ? {} : { spec: pod.spec }),
    ...(pod.status === undefined ? {} : { status: pod.status }),
  };
}
