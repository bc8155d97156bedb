// Plays the conversations of transcripts/istiod.yaml: sends what istiod says, and compares what our ztunnel says.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { eventually } from '../support/netns-mesh.ts';
import type { Istiod, Push, XdsRequest } from './istiod.ts';
import type { ProxyProcess } from './proxy.ts';

interface Step {
  /** What must come; keys that are left out are not compared. `error` is a pattern. */
  readonly ztunnel?: Partial<XdsRequest> & { readonly type: string };
  readonly istiod?: Push;
  readonly end?: { readonly code: number; readonly message: string };
  readonly ready?: boolean;
  /** Not ready, for this. */
  readonly unready?: string;
  readonly holds?: {
    readonly workloads?: readonly string[];
    readonly services?: readonly string[];
    readonly without?: readonly string[];
  };
}

const path = join(import.meta.dirname, 'transcripts/istiod.yaml');
const CONVERSATIONS = parse(readFileSync(path, 'utf8')) as Record<string, readonly Step[]>;

function compare(came: XdsRequest, { error = '', ...wanted }: Partial<XdsRequest>): void {
  const compared = Object.keys(wanted).map((key) => [key, came[key as keyof XdsRequest]]);
  assert.deepEqual(Object.fromEntries(compared), wanted);
  if (error === '') assert.equal(came.error, '');
  else assert.match(came.error, new RegExp(error));
}

function namesOf(list: unknown): string[] {
  return (list as { name: string }[]).map(({ name }) => name);
}

async function checkHolds(proxy: ProxyProcess, holds: NonNullable<Step['holds']>): Promise<void> {
  const { workloads: dumped, services: dumpedServices } = await proxy.dump();
  const [workloads, services] = [namesOf(dumped), namesOf(dumpedServices)];
  for (const name of holds.workloads ?? []) assert.ok(workloads.includes(name), name);
  for (const name of holds.services ?? []) assert.ok(services.includes(name), name);
  for (const name of holds.without ?? []) assert.ok(!workloads.includes(name), `without ${name}`);
}

async function playStep(step: Step, istiod: Istiod, proxy: ProxyProcess): Promise<void> {
  if (step.ztunnel !== undefined)
    compare(await istiod.request(step.ztunnel.type), { nonce: '', ...step.ztunnel });
  if (step.istiod !== undefined) istiod.push(step.istiod);
  if (step.end !== undefined) istiod.endStream(step.end.code, step.end.message);
  if (step.ready !== undefined) await proxy.whenReady();
  if (step.unready !== undefined) {
    const expected = step.unready;
    await eventually('it is up', async () => (await proxy.readiness()).status === 500);
    assert.ok((await proxy.readiness()).text.includes(expected), expected);
  }
  if (step.holds !== undefined) await checkHolds(proxy, step.holds);
}

/** Plays one conversation to its end; nothing may be said that it does not have. */
export async function play(title: string, istiod: Istiod, proxy: ProxyProcess): Promise<void> {
  const steps = CONVERSATIONS[title];
  assert.ok(steps !== undefined, title);
  for (const step of steps) await playStep(step, istiod, proxy);
  assert.deepEqual(istiod.left, []);
}
