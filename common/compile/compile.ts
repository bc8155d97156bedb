// Compiles Kubernetes, Istio and Gateway API objects to what node proxies and waypoints execute. Pure and
// deterministic: the same objects in any order give the same output.
import type { CompileInput, CompileOutput } from './types.ts';

/** Compiles everything; a malformed object yields a verdict and never removes another. */
export function compile(_input: CompileInput): CompileOutput {
  return {
    addresses: new Map(),
    authorizations: new Map(),
    waypoints: new Map(),
    verdicts: [],
    bindings: [],
  };
}
