// What the server knows about a resource: its names, its scope, its subresources. One value for each served
// version; versions of one resource share a bucket of the store.
import type { Schema } from '../schema/schema.ts';

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly jsonPath: string;
  readonly priority?: number;
  readonly format?: string;
  readonly description?: string;
}

export interface ScalePaths {
  readonly spec: string;
  readonly status: string;
  readonly selector: string | undefined;
}

/** A resource at one version. */
export interface Resource {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly singular: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  /** Subresources that are parts of the object: `status`, `scale`. */
  readonly subresources: readonly string[];
  readonly bucket: string;
  readonly scale: ScalePaths | undefined;
  /** Schema of a custom resource, or the compact one of a built-in kind. */
  readonly schema: Schema | undefined;
  readonly isCustom: boolean;
  /** Columns of a custom resource; built-in kinds have their own printers. */
  readonly columns: readonly Column[] | undefined;
}

/** `v1` or `apps/v1`. */
export function apiVersionOf(resource: {
  readonly group: string;
  readonly version: string;
}): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** The store's name of a resource. */
export function bucketOf(group: string, resource: string): string {
  return `${group}/${resource}`;
}
