// Defaults of pod specs, as kube-apiserver's defaulting gives them, for pods and for pod templates.
import { dict, dicts, isDict, text } from '../objects.ts';
import type { Dict } from '../objects.ts';

const DEFAULT_FILE_MODE = 0o644;

function setDefault(target: Dict, name: string, value: unknown): void {
  target[name] ??= value;
}

function defaultProbe(probe: unknown): void {
  if (!isDict(probe)) return;
  const http = probe['httpGet'];
  if (isDict(http)) {
    setDefault(http, 'path', '/');
    setDefault(http, 'scheme', 'HTTP');
  }
  if (isDict(probe['grpc'])) setDefault(probe['grpc'], 'service', '');
  setDefault(probe, 'timeoutSeconds', 1);
  setDefault(probe, 'periodSeconds', 10);
  setDefault(probe, 'successThreshold', 1);
  setDefault(probe, 'failureThreshold', 3);
}

/** `latest` and untagged images are pulled always. */
function pullPolicy(image: string): string {
  if (image.includes('@')) return 'IfNotPresent';
  const tag = image.slice(image.lastIndexOf('/') + 1).split(':')[1] ?? 'latest';
  return tag === 'latest' ? 'Always' : 'IfNotPresent';
}

function defaultContainer(container: Dict): void {
  setDefault(container, 'imagePullPolicy', pullPolicy(text(container['image'])));
  setDefault(container, 'terminationMessagePath', '/dev/termination-log');
  setDefault(container, 'terminationMessagePolicy', 'File');
  setDefault(container, 'resources', {});
  for (const port of dicts(container['ports'])) setDefault(port, 'protocol', 'TCP');
  for (const variable of dicts(container['env'])) {
    const reference = dict(variable['valueFrom'])['fieldRef'];
    if (isDict(reference)) setDefault(reference, 'apiVersion', 'v1');
  }
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    defaultProbe(container[probe]);
  }
  const lifecycle = dict(container['lifecycle']);
  for (const hook of [lifecycle['postStart'], lifecycle['preStop']]) {
    const http = dict(hook)['httpGet'];
    if (isDict(http)) setDefault(http, 'scheme', 'HTTP');
  }
  const requests = dict(dict(container['resources'])['requests']);
  const limits = dict(dict(container['resources'])['limits']);
  const missing = Object.entries(limits).filter(([name]) => requests[name] === undefined);
  if (missing.length > 0) {
    dict(container['resources'])['requests'] = { ...requests, ...Object.fromEntries(missing) };
  }
}

function defaultDownward(items: unknown): void {
  for (const item of dicts(items)) {
    if (isDict(item['fieldRef'])) setDefault(item['fieldRef'], 'apiVersion', 'v1');
  }
}

function defaultVolume(volume: Dict): void {
  const sources = Object.keys(volume).filter((name) => name !== 'name');
  if (sources.length === 0) volume['emptyDir'] = {};
  for (const kind of ['configMap', 'secret', 'projected', 'downwardAPI']) {
    const source = volume[kind];
    if (isDict(source)) setDefault(source, 'defaultMode', DEFAULT_FILE_MODE);
  }
  if (isDict(volume['hostPath'])) setDefault(volume['hostPath'], 'type', '');
  defaultDownward(dict(volume['downwardAPI'])['items']);
  for (const source of dicts(dict(volume['projected'])['sources'])) {
    const token = source['serviceAccountToken'];
    if (isDict(token)) setDefault(token, 'expirationSeconds', 3600);
    defaultDownward(dict(source['downwardAPI'])['items']);
  }
}

/** Fills in a pod spec's defaults, in place. */
export function defaultPodSpec(spec: Dict): void {
  setDefault(spec, 'restartPolicy', 'Always');
  setDefault(spec, 'dnsPolicy', 'ClusterFirst');
  setDefault(spec, 'terminationGracePeriodSeconds', 30);
  setDefault(spec, 'schedulerName', 'default-scheduler');
  setDefault(spec, 'securityContext', {});
  const account = text(spec['serviceAccountName']) || text(spec['serviceAccount']);
  if (account !== '') {
    spec['serviceAccountName'] = account;
    spec['serviceAccount'] = account;
  }
  for (const kind of ['containers', 'initContainers', 'ephemeralContainers']) {
    for (const container of dicts(spec[kind])) defaultContainer(container);
  }
  for (const volume of dicts(spec['volumes'])) defaultVolume(volume);
}
