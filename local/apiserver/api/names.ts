// Checks of metadata that hold for every kind: names, namespaces, labels.
import { dict, isDict } from '../objects.ts';
import type { Dict, ObjectMeta } from '../objects.ts';
import type { Resource } from '../registry/resource.ts';
import { badRequest, invalid } from '../status-error.ts';
import type { FieldProblem } from '../status-error.ts';

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const LABEL_KEY = /^([a-z0-9A-Z.-]{1,253}\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

const SUBDOMAIN_MESSAGE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_MESSAGE =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/** Refuses a name the kind does not allow. */
export function checkName(resource: Resource, name: string): void {
  const isLabel = ['Namespace', 'Service'].includes(resource.kind) && resource.group === '';
  // Roles and the like are named by path segments (`system:node`), nothing stricter.
  const isPath = resource.group === 'rbac.authorization.k8s.io';
  const isGood = isPath
    ? name !== '.' && name !== '..' && !/[/%]/.test(name) && name.length <= 253
    : (isLabel ? LABEL : SUBDOMAIN).test(name) && name.length <= 253;
  if (isGood) return;
  throw invalid(resource, name, [
    {
      reason: 'FieldValueInvalid',
      field: 'metadata.name',
      message: `Invalid value: ${JSON.stringify(name)}: ${isLabel ? LABEL_MESSAGE : SUBDOMAIN_MESSAGE}`,
    },
  ]);
}

function stringMap(value: unknown, at: string, problems: FieldProblem[]): void {
  if (value === undefined || value === null) return;
  if (!isDict(value) || Object.values(value).some((member) => typeof member !== 'string')) {
    throw badRequest(`${at} must be a map of strings`);
  }
  for (const [key, member] of Object.entries(value)) {
    if (!LABEL_KEY.test(key)) {
      problems.push({
        reason: 'FieldValueInvalid',
        field: at,
        message: `Invalid value: ${JSON.stringify(key)}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`,
      });
    }
    if (at === 'metadata.labels' && !LABEL_VALUE.test(String(member))) {
      problems.push({
        reason: 'FieldValueInvalid',
        field: at,
        message: `Invalid value: ${JSON.stringify(member)}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`,
      });
    }
  }
}

const LISTS = ['finalizers', 'ownerReferences', 'managedFields'];

/** The metadata of a request's body, checked; null members are left out. */
export function checkMetadata(
  resource: Resource,
  namespace: string | undefined,
  given: Dict,
): ObjectMeta {
  const metadata = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== null && value !== undefined),
  );
  for (const name of ['name', 'namespace', 'generateName', 'uid', 'resourceVersion']) {
    const value = metadata[name];
    if (value !== undefined && typeof value !== 'string') {
      throw badRequest(`metadata.${name} must be text`);
    }
  }
  for (const name of LISTS) {
    if (metadata[name] !== undefined && !Array.isArray(metadata[name])) {
      throw badRequest(`metadata.${name} must be a list`);
    }
  }
  const inBody = metadata['namespace'];
  if (resource.namespaced && inBody !== undefined && inBody !== '' && inBody !== namespace) {
    throw badRequest(
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  }
  if (!resource.namespaced) Reflect.deleteProperty(metadata, 'namespace');
  const problems: FieldProblem[] = [];
  stringMap(metadata['labels'], 'metadata.labels', problems);
  stringMap(metadata['annotations'], 'metadata.annotations', problems);
  const name = typeof metadata['name'] === 'string' ? metadata['name'] : '';
  if (problems.length > 0) throw invalid(resource, name, problems);
  for (const member of ['labels', 'annotations']) {
    if (Object.keys(dict(metadata[member])).length === 0) Reflect.deleteProperty(metadata, member);
  }
  // Checked above: the members this server reads have the types of ObjectMeta.
  return { ...metadata, name } as ObjectMeta;
}
