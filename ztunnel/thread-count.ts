// How many data threads a node proxy runs. The variables and their syntax are those of Istio's ztunnel;
// the default is ours, because one thread carries more here and costs memory: tunnels are not shared between threads.

/** What the number follows from; undefined is unset. */
export interface ThreadCountInputs {
  /** `3`, `0` for all cores, or `50%`. */
  readonly wanted: string | undefined;
  /** Kubernetes quantities: `2`, `1.5`, `500m`. */
  readonly limit: string | undefined;
  readonly request: string | undefined;
  /** Cores this process may use where there is no limit. */
  readonly cores: number;
}

const SMALL_CORES = 4;
const MAX_DEFAULT_THREADS = 8;
/** Each costs some 15 MB and its own tunnels. */
const MAX_THREADS = 64;

/** Whole cores of a Kubernetes quantity, rounded up; undefined when it is none or is zero. Pure. */
export function coresOf(quantity: string): number | undefined {
  const [, digits, milli] = /^(\d{1,9}(?:\.\d{1,9})?)(m?)$/.exec(quantity.trim()) ?? [];
  if (digits === undefined) return undefined;
  const cores = Math.ceil(milli === 'm' ? Number(digits) / 1000 : Number(digits));
  return cores === 0 ? undefined : cores;
}

/** The number of data threads; undefined when a variable's text means nothing. Pure. */
export function dataThreadCount(inputs: ThreadCountInputs): number | undefined {
  const limit = inputs.limit === undefined ? inputs.cores : coresOf(inputs.limit);
  const request = inputs.request === undefined ? 1 : coresOf(inputs.request);
  if (limit === undefined || request === undefined) return undefined;
  if (inputs.wanted !== undefined) return wantedThreads(inputs.wanted.trim(), limit);
  const share = limit < SMALL_CORES ? 1 : Math.floor(limit / 2);
  // Whoever reserves more cores for the proxy means them to be used.
  return Math.min(MAX_DEFAULT_THREADS, Math.max(share, request));
}

function wantedThreads(text: string, cores: number): number | undefined {
  const [, digits, percent] = /^(\d{1,5})(%?)$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const value = Number(digits);
  if (percent === '') return Math.min(MAX_THREADS, value === 0 ? cores : value);
  if (value < 1 || value > 100) return undefined;
  return Math.min(MAX_THREADS, Math.max(1, Math.ceil((value * cores) / 100)));
}
