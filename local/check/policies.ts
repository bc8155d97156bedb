// Helpers for statements about policies of the sample: take one away as the control, and bring it back.
import { join } from 'node:path';
import type { KubeObject, ResourceKind } from '../../common/kube/resource.ts';
import { readManifests } from '../cluster-api.ts';
import { REPOSITORY } from '../options.ts';
import { fail, type Bench } from './bench.ts';

/** The object of a sample manifest. */
export function sampleObject(file: string, kind: string, name: string): KubeObject {
  const path = join(REPOSITORY, 'manifests/samples', file);
  const found = readManifests(path).find(
    (object) => object.kind === kind && object.metadata?.name === name,
  );
  return found ?? fail(`${file} has no ${kind} ${name}`);
}

/** Runs `control` while the object is deleted, then applies it again. */
export async function without(
  bench: Bench,
  kind: ResourceKind,
  object: KubeObject,
  control: () => Promise<unknown>,
): Promise<void> {
  const { name = '', namespace = '' } = object.metadata ?? {};
  await bench.api.client.delete({ kind, namespace, name });
  try {
    await control();
  } finally {
    await bench.api.apply([object], bench.signal);
  }
}
