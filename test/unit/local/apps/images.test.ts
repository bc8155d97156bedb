import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { appOfImage } from '../../../../local/apps/images.ts';
import { REPOSITORY } from '../../../../local/options.ts';

const STOCK = [
  'release/examples-bookinfo-productpage-v1',
  'release/examples-bookinfo-details-v1',
  'release/examples-bookinfo-reviews-v3',
  'release/examples-bookinfo-ratings-v1',
  'mccutchen/go-httpbin',
  'release/tcp-echo-server',
  'testing/app',
  'release/examples-helloworld-v2',
  'hiroakis/tornado-websocket-example',
  'ambient-mesh/load',
];

describe('sample images', () => {
  for (const name of STOCK) {
    it(`plays ${name}`, () => {
      const app = appOfImage(name);
      assert.ok(app !== undefined && existsSync(join(REPOSITORY, app.script)));
    });
  }

  it('plays no image it does not know', () => {
    assert.equal(appOfImage('library/postgres'), undefined);
  });
});
