// The mesh config file and PROXY_CONFIG: which of several that say the same wins, and what is said of
// those that cannot be read.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readConfig, type Config } from '../../../ztunnel/config.ts';

const dir = mkdtempSync(join(tmpdir(), 'mesh-config-'));
const MESH_CONFIG_FILE = join(dir, 'mesh');
const ABSENT = join(dir, 'absent');
after(() => rmSync(dir, { recursive: true, force: true }));

const FILE = `
accessLogFile: /dev/stdout
trustDomain: not-read-here
defaultConfig:
  discoveryAddress: file:1
  proxyAdminPort: 1001
  statsPort: 1002
  concurrency: 3
  holdApplicationUntilProxyStarts: true
  proxyMetadata:
    ISTIO_META_CLUSTER_ID: from-file
    ISTIO_META_ONLY_FILE: file
    PLAIN: file
`;

interface Case {
  readonly claim: string;
  /** Undefined: there is none. */
  readonly file?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly is: object;
}

const CASES: readonly Case[] = [
  {
    claim: 'the file stands for variables that are not set',
    file: FILE,
    is: {
      xds: { address: 'file:1' },
      adminPort: 1001,
      statsPort: 1002,
      dataThreads: 3,
      clusterId: 'from-file',
      metadata: { CLUSTER_ID: 'from-file', ONLY_FILE: 'file', PLAIN: 'file' },
      warnings: [],
    },
  },
  {
    claim: 'the file does not say where the certificate authority is',
    file: FILE,
    is: { ca: { address: 'https://localhost:15012' } },
  },
  {
    claim: 'PROXY_CONFIG wins over the file, field by field, and adds to its metadata',
    file: FILE,
    env: {
      PROXY_CONFIG:
        'statsPort: 2002\nproxyMetadata: { ISTIO_META_CLUSTER_ID: from-env, OTHER: env }',
    },
    is: {
      xds: { address: 'file:1' },
      adminPort: 1001,
      statsPort: 2002,
      metadata: { CLUSTER_ID: 'from-env', ONLY_FILE: 'file', PLAIN: 'file', OTHER: 'env' },
    },
  },
  {
    claim: 'a variable wins over both',
    file: FILE,
    env: {
      PROXY_CONFIG: '{"discoveryAddress":"env:1","concurrency":4,"proxyMetadata":{"PLAIN":"env"}}',
      XDS_ADDRESS: 'variable:1',
      ZTUNNEL_WORKER_THREADS: '2',
      ISTIO_META_PLAIN: 'variable',
    },
    is: { xds: { address: 'variable:1' }, dataThreads: 2, metadata: { PLAIN: 'variable' } },
  },
  {
    claim: 'XDS_ADDRESS set to nothing turns xDS off, whatever they say',
    file: FILE,
    env: { XDS_ADDRESS: '' },
    is: { xds: undefined },
  },
  {
    claim: 'PROXY_CONFIG needs no metadata, and may be JSON',
    env: { PROXY_CONFIG: '{"statsPort": 7}' },
    is: { statsPort: 7, xds: { address: 'https://localhost:15012' }, metadata: {} },
  },
  {
    claim: 'metadata turns the DNS proxy off, as its variable does',
    env: { PROXY_CONFIG: 'proxyMetadata: { ISTIO_META_DNS_CAPTURE: "false" }' },
    is: { dns: undefined },
  },
  { claim: 'an empty PROXY_CONFIG says nothing', env: { PROXY_CONFIG: '' }, is: { warnings: [] } },
  { claim: 'an empty file says nothing', file: '', is: { adminPort: 15_000 } },
  { claim: 'a file without defaultConfig says nothing', file: 'rootNamespace: x', is: {} },
  { claim: 'no file says nothing', is: { adminPort: 15_000, statsPort: 15_020 } },
];

function read(file: string | undefined, env: Readonly<Record<string, string>> = {}): Config {
  if (file !== undefined) writeFileSync(MESH_CONFIG_FILE, file);
  return readConfig({ MESH_CONFIG_FILE: file === undefined ? ABSENT : MESH_CONFIG_FILE, ...env });
}

/** Which name and field are in the message. */
const MISTAKES: readonly (readonly [file: string | undefined, config: string, says: string])[] = [
  ['defaultConfig: [1', '', `${MESH_CONFIG_FILE} is not YAML`],
  ['- a list', '', `${MESH_CONFIG_FILE} must be an object`],
  ['defaultConfig: text', '', `${MESH_CONFIG_FILE}: defaultConfig must be an object`],
  ['defaultConfig: { statsPort: a }', '', `${MESH_CONFIG_FILE}: defaultConfig: statsPort must be`],
  [undefined, '{', 'PROXY_CONFIG is not YAML'],
  [undefined, 'text', 'PROXY_CONFIG must be an object'],
  [undefined, 'proxyAdminPort: 65536', 'PROXY_CONFIG: proxyAdminPort must be a whole number'],
  [undefined, 'concurrency: -1', 'PROXY_CONFIG: concurrency must be a whole number'],
  [undefined, 'concurrency: 1.5', 'PROXY_CONFIG: concurrency must be a whole number'],
  [undefined, 'discoveryAddress: 1', 'PROXY_CONFIG: discoveryAddress must be a text'],
  [undefined, 'proxyMetadata: 1', 'PROXY_CONFIG: proxyMetadata must be an object'],
  [undefined, 'proxyMetadata: {A: true}', 'PROXY_CONFIG: proxyMetadata: A must be a text'],
];

describe('mesh config', () => {
  for (const { claim, file, env, is } of CASES) {
    it(claim, () => assert.partialDeepStrictEqual(read(file, env), is));
  }

  for (const [file, config, says] of MISTAKES) {
    it(`ends the start: ${file ?? config}`, () => {
      const fails = (err: Error): boolean => err.message.includes(says);
      assert.throws(() => read(file, { PROXY_CONFIG: config }), fails);
    });
  }

  it('its mistakes are told with those of variables', () => {
    const env = { PROXY_CONFIG: 'statsPort: x', PACKET_MARK: 'y' };
    assert.throws(
      () => read('defaultConfig: 1', env),
      /defaultConfig must.*statsPort must.*PACKET_MARK must/,
    );
  });
});
