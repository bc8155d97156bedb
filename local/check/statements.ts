// The statements in the order they are verified: those that only look come first, those that disturb come last.
import { probes } from './probes.ts';
import type { Statement } from './statement.ts';

export const STATEMENTS: readonly Statement[] = [probes];
