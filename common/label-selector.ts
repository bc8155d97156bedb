// Kubernetes' label selectors. A leaf: also the CNI plugin, which has no packages, decides by it.

export type Labels = Readonly<Record<string, string>>;

/** One of a selector's matchExpressions; an operator that is not Kubernetes' never holds. */
export interface SelectorRequirement {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}

/** An object's selector. All of both parts must hold. */
export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly SelectorRequirement[];
}

/** Whether a label's value, undefined when it is not set, meets an operator. */
export function meetsOperator(
  value: string | undefined,
  operator: unknown,
  values: readonly unknown[] = [],
): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    default:
      return false;
  }
}

/** Whether labels match a selector; an empty one matches everything. */
export function matchesSelector(labels: Labels, selector: LabelSelector = {}): boolean {
  // A label may be missing although its key names something every object inherits.
  const valueOf = (key: string): string | undefined =>
    Object.hasOwn(labels, key) ? labels[key] : undefined;
  return (
    Object.entries(selector.matchLabels ?? {}).every(([key, value]) => valueOf(key) === value) &&
    (selector.matchExpressions ?? []).every(({ key, operator, values }) =>
      meetsOperator(valueOf(key), operator, values),
    )
  );
}
