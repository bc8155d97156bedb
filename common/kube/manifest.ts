// Reads Kubernetes objects from files, folders and standard input. Errors name the file and the document.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { errorMessage, MeshError } from '../errors.ts';
import type { KubeObject } from './resource.ts';

/** An object and where it came from. */
export interface ManifestObject {
  readonly source: string;
  readonly object: KubeObject;
}

/** Parses the documents of a YAML or JSON text; lists are unfolded, empty documents skipped. */
export function parseManifest(source: string, text: string): ManifestObject[] {
  const documents = parseAllDocuments(text);
  if (!Array.isArray(documents)) return [];
  return documents.flatMap((document, index) => {
    const where = documents.length > 1 ? `${source} (document ${index + 1})` : source;
    const problem = document.errors[0];
    if (problem !== undefined) throw new MeshError('bad_manifest', `${where}: ${problem.message}`);
    const value = document.toJS() as (KubeObject & { items?: KubeObject[] }) | null;
    if (value === null) return [];
    const objects = value.kind === 'List' ? (value.items ?? []) : [value];
    return objects.map((object) => checkObject(where, object));
  });
}

function checkObject(source: string, object: KubeObject): ManifestObject {
  for (const field of ['apiVersion', 'kind'] as const) {
    if (typeof object[field] !== 'string')
      throw new MeshError('bad_manifest', `${source}: ${field} is missing`);
  }
  if (typeof object.metadata?.name !== 'string') {
    throw new MeshError(
      'bad_manifest',
      `${source}: ${object.kind ?? ''}: metadata.name is missing`,
    );
  }
  return { source, object };
}

/** Reads a file, every .yaml, .yml and .json of a folder in the order of their names, or `-`. */
export function readManifest(path: string, isRecursive = false): ManifestObject[] {
  if (path === '-') return parseManifest('standard input', readFileSync(0, 'utf8'));
  try {
    if (!statSync(path).isDirectory()) return parseManifest(path, readFileSync(path, 'utf8'));
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => (entry.isDirectory() ? isRecursive : isManifest(entry.name)))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap(({ name }) => readManifest(join(path, name), isRecursive));
  } catch (err) {
    if (err instanceof MeshError) throw err;
    throw new MeshError('bad_manifest', `cannot read ${path}: ${errorMessage(err)}`, {
      cause: err,
    });
  }
}

function isManifest(file: string): boolean {
  return /\.(ya?ml|json)$/.test(file) && file !== 'kustomization.yaml';
}
