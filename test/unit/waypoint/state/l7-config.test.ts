// L7 resources: decoded, refused with their field, indexed.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseLocalL7 } from '../../../../common/l7/local-file.ts';
import { decodeL7Resource, L7Config } from '../../../../waypoint/state/l7-config.ts';

function load(config: L7Config, document: object): void {
  for (const { kind, name, value } of parseLocalL7(JSON.stringify(document))) {
    config.upsert(name, decodeL7Resource(kind, name, value));
  }
}

const policy = (name: string, more: object): object => ({ namespace: 'ns', name, ...more });

describe('L7Config', () => {
  it('binds policies to services and to the whole gateway', () => {
    const config = new L7Config();
    load(config, {
      authorizationPolicies: [
        policy('all', { wholeGateway: true }),
        policy('web', { services: ['ns/web'] }),
      ],
    });
    const names = (key: string): string[] => config.policiesFor(key).map(({ name }) => name);
    assert.deepEqual(names('ns/web'), ['ns/all', 'ns/web']);
    assert.deepEqual(names('ns/other'), ['ns/all']);
    assert.deepEqual(names(''), ['ns/all']);
    config.remove('AuthorizationPolicy', 'ns/web');
    assert.deepEqual(names('ns/web'), ['ns/all']);
  });

  it('says that something changed for clusters', () => {
    const config = new L7Config();
    const before = config.version;
    load(config, { clusters: [{ name: 'c', hostname: 'h' }] });
    assert.notEqual(config.version, before);
  });

  const bad: [name: string, document: object, message: RegExp][] = [
    ['a cluster without a host', { clusters: [{ name: 'c' }] }, /Cluster c: hostname: is empty/],
    [
      'a route with a bad pattern',
      {
        serviceRoutes: [
          {
            namespace: 'n',
            hostname: 'h',
            ports: [
              { servicePort: 80, routes: [{ matches: [{ path: { regex: '[' } }], forward: {} }] },
            ],
          },
        ],
      },
      /ServiceRoutes n\/h: ports\[0\]: routes\[0\]\.matches\[0\]: path: invalid regex/,
    ],
    [
      'a policy with a bad block',
      { authorizationPolicies: [policy('p', { rules: [{ from: [{ ipBlocks: ['x'] }] }] })] },
      /AuthorizationPolicy ns\/p: rules\[0\]: from\[0\]: "x" is not an address block/,
    ],
    ['an unknown key', { routes: [] }, /unknown key routes/],
    ['an unknown field', { clusters: [{ nam: 'c' }] }, /clusters\[0\]/],
  ];
  for (const [name, document, message] of bad) {
    it(`refuses ${name} and keeps what was there`, () => {
      const config = new L7Config();
      load(config, { clusters: [{ name: 'c', hostname: 'good' }] });
      assert.throws(() => load(config, document), message);
      assert.equal(config.cluster('c')?.hostname, 'good');
    });
  }

  it('throws nothing but its own error for any bytes', () => {
    for (let seed = 0; seed < 300; seed++) {
      const bytes = Uint8Array.from({ length: seed % 40 }, (_, at) => (seed * 31 + at * 17) % 256);
      try {
        decodeL7Resource('ServiceRoutes', 'x', bytes);
      } catch (err) {
        assert.equal((err as { code?: string }).code, 'bad_resource');
      }
    }
  });
});
