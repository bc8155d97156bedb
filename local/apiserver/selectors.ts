// Label and field selectors: the query forms (`a=b,c in (d,e),!f`) and the object form (matchLabels,
// matchExpressions).
import { meetsOperator } from '../../common/label-selector.ts';
import { dict, dicts, list, text } from './objects.ts';
import type { KubeObject } from './objects.ts';
import { badRequest } from './status-error.ts';

export type Matcher = (object: KubeObject) => boolean;

type Labels = Readonly<Record<string, string>>;
type LabelTest = (labels: Labels) => boolean;

const SET_TERM = /^\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*$/;
const EQUAL_TERM = /^\s*([^\s=!]+)\s*(==|=|!=)\s*([^\s=]*)\s*$/;
const EXISTS_TERM = /^\s*(!?)\s*([^\s=!]+)\s*$/;

/** Commas separate terms, except between brackets. */
function terms(selector: string): string[] {
  return selector.split(/,(?![^(]*\))/).filter((term) => term.trim() !== '');
}

function labelTest(term: string): LabelTest {
  const set = SET_TERM.exec(term);
  if (set !== null) {
    const [, key = '', operator, values = ''] = set;
    const wanted = values.split(',').map((value) => value.trim());
    const isIn = operator === 'in';
    return (labels) => wanted.includes(labels[key] ?? '\u0000') === isIn;
  }
  const equal = EQUAL_TERM.exec(term);
  if (equal !== null) {
    const [, key = '', operator, value = ''] = equal;
    return (labels) => (labels[key] === value) === (operator !== '!=');
  }
  const exists = EXISTS_TERM.exec(term);
  if (exists !== null) {
    const [, not, key = ''] = exists;
    return (labels) => (labels[key] !== undefined) === (not !== '!');
  }
  throw badRequest(`unable to parse requirement: ${JSON.stringify(term)}`);
}

/** Parses `labelSelector=`; undefined when it selects everything. */
export function parseLabelSelector(selector: string | null): Matcher | undefined {
  if (selector === null || selector.trim() === '') return undefined;
  const tests = terms(selector).map(labelTest);
  return (object) => tests.every((test) => test(object.metadata.labels ?? {}));
}

/** What a field path holds, as text: absent fields are empty, as the API server has it. */
function fieldText(object: KubeObject, path: string): string {
  let at: unknown = object;
  for (const step of path.split('.')) at = dict(at)[step];
  return typeof at === 'string' || typeof at === 'number' || typeof at === 'boolean'
    ? String(at)
    : '';
}

/** Parses `fieldSelector=` for any scalar field. */
export function parseFieldSelector(selector: string | null): Matcher | undefined {
  if (selector === null || selector.trim() === '') return undefined;
  const tests = terms(selector).map((term): Matcher => {
    const equal = EQUAL_TERM.exec(term);
    if (equal === null) throw badRequest(`invalid field selector: ${JSON.stringify(term)}`);
    const [, path = '', operator, value = ''] = equal;
    return (object) => (fieldText(object, path) === value) === (operator !== '!=');
  });
  return (object) => tests.every((test) => test(object));
}

/** Both selectors of a request, joined. */
export function parseSelectors(query: URLSearchParams): Matcher | undefined {
  const byLabel = parseLabelSelector(query.get('labelSelector'));
  const byField = parseFieldSelector(query.get('fieldSelector'));
  if (byLabel === undefined) return byField;
  if (byField === undefined) return byLabel;
  return (object) => byLabel(object) && byField(object);
}

/** Whether labels match a LabelSelector object; an empty one matches everything. */
export function matchesSelector(selector: unknown, labels: Labels): boolean {
  const of = dict(selector);
  for (const [key, value] of Object.entries(dict(of['matchLabels']))) {
    if (labels[key] !== value) return false;
  }
  return dicts(of['matchExpressions']).every((expression) => {
    const value = labels[text(expression['key'])];
    return meetsOperator(value, expression['operator'], list(expression['values']));
  });
}
