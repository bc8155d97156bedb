// What `npm start` prints when everything runs: where things are and what to try.
import { relative } from 'node:path';
import type { StartOptions } from './options.ts';

export interface Places {
  readonly options: StartOptions;
  readonly kubeconfig: string;
  readonly uiPort: number;
  readonly apiPort: number;
  readonly seconds: number;
}

const COMMANDS: readonly (readonly [string, string])[] = [
  ['take the shop out of the mesh', 'label namespace bookinfo istio.io/dataplane-mode-'],
  ['and in again', 'label namespace bookinfo istio.io/dataplane-mode=ambient'],
  ['apply a route', 'apply -f manifests/samples/bookinfo/routes.yaml'],
  [
    'be denied by the waypoint',
    'exec -n bookinfo deploy/curl -- curl -s http://reviews:9080/admin',
  ],
  ['look at metrics', 'metrics -n bookinfo'],
];

/** A path below the working directory is shown relative to it. */
function shorten(path: string): string {
  const near = relative(process.cwd(), path);
  return near === '' || near.startsWith('..') ? path : near;
}

/** The text, ready to print. */
export function describeCluster({ options, kubeconfig, uiPort, apiPort, seconds }: Places): string {
  const near = shorten(kubeconfig);
  const lines = [
    '',
    `The mesh runs (${seconds.toFixed(0)} s).`,
    '',
    '  nodes       ambient-a, ambient-b: network namespaces on one bridge',
    '  mesh        istiod (control plane), ztunnel and cni on each node',
    ...(options.isEmpty
      ? []
      : [
          '  bookinfo    productpage -> details, reviews (v1 90 %, v2 10 %) -> ratings; a waypoint for L7',
          '  strict      a namespace that refuses plaintext',
        ]),
    '',
    `  dashboard   http://127.0.0.1:${uiPort}/`,
    `  API         https://127.0.0.1:${apiPort}/   kubectl --kubeconfig ${near} get pods -A`,
    `  logs        ${shorten(options.stateDir)}/logs/`,
    '',
  ];
  if (!options.isEmpty) {
    lines.push('Five things to try in another terminal (npx ambientctl ..., or kubectl):');
    for (const [what, command] of COMMANDS) {
      lines.push(`  ${what.padEnd(30)} npx ambientctl ${command}`);
    }
    lines.push('');
  }
  lines.push('Ctrl-C stops everything.', '');
  return lines.join('\n') + '\n';
}
