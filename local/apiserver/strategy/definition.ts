// CustomResourceDefinitions: names filled in, accepted at once, and refused when they cannot be served.
import { dict, dicts, isDict, text, timestamp } from '../objects.ts';
import type { FieldProblem } from '../status-error.ts';
import { required, wrong } from './strategy.ts';
import type { Strategy } from './strategy.ts';

/** The strategy of CustomResourceDefinitions. */
export const definitionStrategy: Strategy = {
  prepare(object, before) {
    const spec = dict((object['spec'] ??= {}));
    const names = dict((spec['names'] ??= {}));
    names['singular'] ??= text(names['kind']).toLowerCase();
    names['listKind'] ??= `${text(names['kind'])}List`;
    spec['conversion'] ??= { strategy: 'None' };
    if (before !== undefined)
      object['status'] = { ...dict(before['status']), acceptedNames: names };
  },
  validate(object) {
    const spec = dict(object['spec']);
    const names = dict(spec['names']);
    const problems: FieldProblem[] = [];
    const name = `${text(names['plural'])}.${text(spec['group'])}`;
    if (name !== object.metadata.name) {
      problems.push(
        wrong('metadata.name', object.metadata.name, 'must be spec.names.plural+"."+spec.group'),
      );
    }
    if (text(names['kind']) === '') problems.push(required('spec.names.kind'));
    const versions = dicts(spec['versions']);
    if (versions.filter((version) => version['storage'] === true).length !== 1) {
      problems.push(
        wrong('spec.versions', versions.length, 'must have exactly one version marked as storage'),
      );
    }
    for (const [index, version] of versions.entries()) {
      if (isDict(dict(version['schema'])['openAPIV3Schema'])) continue;
      problems.push(required(`spec.versions[${index}].schema.openAPIV3Schema`));
    }
    return problems;
  },
  initialStatus(object) {
    const spec = dict(object['spec']);
    const at = timestamp(Date.now());
    const condition = (type: string, reason: string, message: string): object => ({
      type,
      status: 'True',
      reason,
      message,
      lastTransitionTime: at,
    });
    return {
      acceptedNames: spec['names'],
      storedVersions: dicts(spec['versions'])
        .filter((version) => version['storage'] === true)
        .map((version) => version['name']),
      conditions: [
        condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
        condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
      ],
    };
  },
};
