// The JSONPath of printer columns and scale subresources: `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`.
import { isDict } from '../objects.ts';

const STEP =
  /^(?:\.([A-Za-z0-9_$/-]+(?:\\\.[A-Za-z0-9_$/-]+)*)|\[['"]([^'"]+)['"]\]|\[(-?\d+)\]|\[\*\]|\.\*|\[\?\(\s*@\.([\w.]+)\s*==\s*(?:"([^"]*)"|'([^']*)')\s*\)\])/;

type Step = (values: unknown[]) => unknown[];

const compiled = new Map<string, Step[] | undefined>();

const member = (value: unknown, name: string): unknown => (isDict(value) ? value[name] : undefined);

const all = (value: unknown): unknown[] =>
  Array.isArray(value) ? (value as unknown[]) : isDict(value) ? Object.values(value) : [];

function stepOf(match: RegExpExecArray): Step {
  const [whole, plain, quotedName, index, filterPath, double, single] = match;
  const name = plain?.replaceAll('\\.', '.') ?? quotedName;
  if (name !== undefined) return (values) => values.map((value) => member(value, name));
  if (index !== undefined) {
    return (values) => values.map((value) => all(value).at(Number(index)));
  }
  if (filterPath !== undefined) {
    const wanted = double ?? single ?? '';
    const path = filterPath.split('.');
    return (values) =>
      values.flatMap(all).filter((item) => String(path.reduce(member, item)) === wanted);
  }
  return whole === '' ? (values) => values : (values) => values.flatMap(all);
}

function compile(path: string): Step[] | undefined {
  const steps: Step[] = [];
  let rest = path.replace(/^\{|\}$/g, '').replace(/^\$/, '');
  while (rest !== '') {
    const match = STEP.exec(rest);
    if (match === null) return undefined;
    steps.push(stepOf(match));
    rest = rest.slice(match[0].length);
  }
  return steps;
}

/** The values at a path; none when the path is not understood. */
export function evaluatePath(path: string, root: unknown): unknown[] {
  if (!compiled.has(path)) compiled.set(path, compile(path));
  const steps = compiled.get(path);
  if (steps === undefined) return [];
  let values: unknown[] = [root];
  for (const step of steps) values = step(values);
  return values.filter((value) => value !== undefined && value !== null);
}
