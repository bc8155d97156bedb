// The import rules of ARCHITECTURE.md as a test: who may import what, and no cycles. Each row says why.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, it } from 'node:test';
import ts from 'typescript';

const PROGRAMS = ['ztunnel', 'waypoint', 'cni', 'controlplane', 'cli', 'local'];

// Each npm package is imported from one folder, so that replacing or patching it touches one place.
const PACKAGE_HOMES: Readonly<Record<string, readonly string[]>> = {
  koffi: ['engine/native'],
  'node-forge': ['common/identity'],
  pino: ['common/telemetry'],
  'prom-client': ['common/telemetry'],
  '@grpc/grpc-js': ['common/grpc'],
  'dns-packet': ['common/dns'],
  '@kubernetes/client-node': ['common/kube'],
  re2js: ['common/l7', 'common/resources'],
  ajv: ['local'],
  'ajv-formats': ['local'],
  ws: ['local', 'common/kube'],
  commander: ['cli'],
  yaml: ['cli', 'local', 'common/kube', 'common/l7', 'common/resources', 'common/workload'],
  jose: ['waypoint'],
  '@bufbuild/cel': ['waypoint', 'local'],
  '@bufbuild/protobuf': ['common', 'controlplane', 'waypoint', 'ztunnel', 'cni'],
};

interface Import {
  readonly file: string;
  readonly target: string;
}

function sourceFiles(): string[] {
  return globSync('{common,engine,ztunnel,waypoint,cni,controlplane,cli,local}/**/*.ts').filter(
    (file) => !file.includes('/ui/'),
  );
}

function importsOf(file: string): Import[] {
  const found = ts.preProcessFile(readFileSync(file, 'utf8'), true, true).importedFiles;
  return found.map(({ fileName }) => ({
    file,
    target: fileName.startsWith('.') ? normalize(join(dirname(file), fileName)) : fileName,
  }));
}

const files = sourceFiles();
const imports = files.flatMap(importsOf);
const isLocal = (target: string): boolean => files.includes(target);
const top = (path: string): string => path.split('/')[0] ?? '';

function violations(rule: (entry: Import) => boolean): string[] {
  return imports.filter(rule).map(({ file, target }) => `${file} -> ${target}`);
}

describe('architecture', () => {
  it('no program imports another', () => {
    assert.deepEqual(
      violations(
        ({ file, target }) =>
          isLocal(target) && PROGRAMS.includes(top(target)) && top(file) !== top(target),
      ),
      [],
    );
  });

  it('the engine knows nothing of the mesh', () => {
    assert.deepEqual(
      violations(({ file, target }) => top(file) === 'engine' && top(target) === 'common'),
      [],
    );
  });

  it('engine/native is imported only by the engine', () => {
    assert.deepEqual(
      violations(
        ({ file, target }) => top(file) !== 'engine' && target.startsWith('engine/native'),
      ),
      [],
    );
  });

  it('common uses the engine only in hbone', () => {
    assert.deepEqual(
      violations(
        ({ file, target }) =>
          top(file) === 'common' && top(target) === 'engine' && !file.startsWith('common/hbone/'),
      ),
      [],
    );
  });

  it('the proxies know nothing of Kubernetes', () => {
    assert.deepEqual(
      violations(
        ({ file, target }) =>
          ['ztunnel', 'waypoint'].includes(top(file)) && target.startsWith('common/kube'),
      ),
      [],
    );
  });

  it('the cni plugin has no npm packages and no engine', () => {
    assert.deepEqual(
      violations(
        ({ file, target }) =>
          file.startsWith('cni/plugin/') && !target.startsWith('node:') && !isLocal(target),
      ),
      [],
    );
    assert.deepEqual(
      violations(({ file, target }) => file.startsWith('cni/plugin/') && top(target) === 'engine'),
      [],
    );
  });

  it('each npm package is imported from its own folders', () => {
    const bad = imports.filter(({ file, target }) => {
      if (isLocal(target) || target.startsWith('node:') || target.includes('.ts')) return false;
      const name = target
        .split('/')
        .slice(0, target.startsWith('@') ? 2 : 1)
        .join('/');
      const homes = PACKAGE_HOMES[name];
      return homes === undefined || !homes.some((home) => file.startsWith(`${home}/`));
    });
    assert.deepEqual(
      bad.map(({ file, target }) => `${file} -> ${target}`),
      [],
    );
  });

  it('only config and main files read the environment', () => {
    const bad = files.filter(
      (file) =>
        !/(^|\/)(config|main|env)\.ts$/.test(file) &&
        !file.startsWith('local/') &&
        !file.startsWith('cli/') &&
        !file.startsWith('cni/plugin/') &&
        readFileSync(file, 'utf8').includes('process.env'),
    );
    assert.deepEqual(bad, []);
  });

  it('has no import cycles', () => {
    assert.deepEqual(findCycle(), []);
  });
});

function findCycle(): string[] {
  const edges = new Map<string, string[]>();
  for (const { file, target } of imports) {
    if (isLocal(target)) edges.set(file, [...(edges.get(file) ?? []), target]);
  }
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    path.push(file);
    for (const next of edges.get(file) ?? []) {
      const cycle = visit(next);
      if (cycle.length > 0) return cycle;
    }
    path.pop();
    done.add(file);
    return [];
  };
  for (const file of files) {
    const cycle = visit(file);
    if (cycle.length > 0) return cycle;
  }
  return [];
}
