// Istio's other ways to configure a node proxy: `defaultConfig` of the mesh config file, then
// PROXY_CONFIG, field by field over it. Each field stands for a variable, which wins where it is set. Of what is in them
// only the fields here are read: both are written for sidecars too.
import { existsSync, readFileSync } from 'node:fs';
import type { Env, EnvReader } from '../common/env.ts';
import { errorMessage } from '../common/errors.ts';
import { parseYaml } from '../common/workload/yaml-fields.ts';

/** Istio's `./etc/istio/config/mesh`, whose images run in `/`. */
export const DEFAULT_MESH_CONFIG_FILE = '/etc/istio/config/mesh';
const METADATA_PREFIX = 'ISTIO_META_';
const MAX_PORT = 65_535;

/** The variable that a field stands for, and whether the field is a number: its greatest value. */
const FIELDS: Readonly<Record<string, { readonly variable: string; readonly max?: number }>> = {
  discoveryAddress: { variable: 'XDS_ADDRESS' },
  proxyAdminPort: { variable: 'ADMIN_PORT', max: MAX_PORT },
  statsPort: { variable: 'STATS_PORT', max: MAX_PORT },
  concurrency: { variable: 'ZTUNNEL_WORKER_THREADS', max: MAX_PORT },
};

type Problem = (name: string, text: string) => void;
type Values = Readonly<Record<string, string>>;

/**
 * The environment with what file and PROXY_CONFIG add to it. A missing file and an empty PROXY_CONFIG add nothing; what
 * cannot be read is told to `problem`, with the file or variable and the field.
 */
export function withMeshConfig(env: Env, problem: EnvReader['problem']): Env {
  const text = env['PROXY_CONFIG'] ?? '';
  return {
    ...readFile(env['MESH_CONFIG_FILE'] ?? DEFAULT_MESH_CONFIG_FILE, problem),
    ...(text === ''
      ? {}
      : proxyConfig('PROXY_CONFIG', parsed('PROXY_CONFIG', text, problem), problem)),
    ...env,
  };
}

function readFile(path: string, problem: Problem): Values {
  if (!existsSync(path)) return {};
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (err) {
    problem(path, `cannot be read: ${errorMessage(err)}`);
    return {};
  }
  const mesh = objectOf(path, parsed(path, text, problem), problem);
  return proxyConfig(`${path}: defaultConfig`, mesh['defaultConfig'], problem);
}

function parsed(name: string, text: string, problem: Problem): unknown {
  try {
    return parseYaml(text);
  } catch (err) {
    problem(name, `is not YAML: ${errorMessage(err)}`);
    return undefined;
  }
}

/** What a ProxyConfig says, as variables. */
function proxyConfig(name: string, value: unknown, problem: Problem): Values {
  const fields = objectOf(name, value, problem);
  const values: Record<string, string> = {};
  for (const [field, { variable, max }] of Object.entries(FIELDS)) {
    const given = fields[field] ?? undefined;
    if (given === undefined) continue;
    if (max === undefined && typeof given === 'string') values[variable] = given;
    else if (max !== undefined && isWhole(given, max)) values[variable] = String(given);
    else {
      const wanted = max === undefined ? 'a text' : `a whole number from 0 to ${max}`;
      problem(`${name}: ${field}`, `must be ${wanted}`);
    }
  }
  return { ...values, ...metadata(`${name}: proxyMetadata`, fields['proxyMetadata'], problem) };
}

/** Keys are those of the control plane's metadata, with the prefix of the variable or without. */
function metadata(name: string, value: unknown, problem: Problem): Values {
  const values: Record<string, string> = {};
  for (const [key, given] of Object.entries(objectOf(name, value, problem))) {
    const variable = key.startsWith(METADATA_PREFIX) ? key : `${METADATA_PREFIX}${key}`;
    if (typeof given === 'string') values[variable] = given;
    else problem(`${name}: ${key}`, 'must be a text');
  }
  return values;
}

function isWhole(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;
}

/** Nothing is an empty object: a file or a field may be there and say nothing. */
function objectOf(
  name: string,
  value: unknown,
  problem: Problem,
): Readonly<Record<string, unknown>> {
  if (value === undefined || value === null) return {};
  if (typeof value === 'object' && !Array.isArray(value)) return { ...value };
  problem(name, 'must be an object');
  return {};
}
