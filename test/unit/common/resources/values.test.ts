// Durations, hosts, patterns, addresses and path templates as users write them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import {
  formatProtoDuration,
  parseGoDurationMs,
} from '../../../../common/resources/go-duration.ts';
import { hostMatches, isValidHost, resolveHost } from '../../../../common/resources/host-name.ts';
import {
  pathTemplateProblem,
  pathTemplateRegex,
} from '../../../../common/resources/path-template.ts';
import { parseBlock, parsePattern, parsePort } from '../../../../common/resources/policy-value.ts';
import { regexProblem } from '../../../../common/resources/regex.ts';

describe('go durations', () => {
  const rows: readonly (readonly [string, number | undefined])[] = [
    ['500ms', 500],
    ['1s', 1000],
    ['0.5s', 500],
    ['.5s', 500],
    ['1m30s', 90_000],
    ['1.5h', 5_400_000],
    ['250us', 0.25],
    ['250µs', 0.25],
    ['0', 0],
    ['-1s', -1000],
    ['+2s', 2000],
    ['', undefined],
    ['5', undefined],
    ['5 minutes', undefined],
    ['1d', undefined],
    ['1s ', undefined],
    ['.s', undefined],
    ['s', undefined],
  ];
  for (const [text, expected] of rows) {
    it(`${JSON.stringify(text)} is ${expected ?? 'refused'}`, () => {
      assert.equal(parseGoDurationMs(text), expected);
    });
  }

  it('round-trips through proto json for whole milliseconds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (ms) => {
        assert.equal(parseGoDurationMs(formatProtoDuration(ms)), ms);
      }),
    );
  });

  it('never throws', () => {
    fc.assert(fc.property(fc.string(), (text) => void parseGoDurationMs(text)));
  });
});

describe('hosts', () => {
  const resolved: readonly (readonly [string, string])[] = [
    ['reviews', 'reviews.app.svc.cluster.local'],
    ['Reviews', 'reviews.app.svc.cluster.local'],
    ['reviews.other.svc.cluster.local', 'reviews.other.svc.cluster.local'],
    ['www.example.com', 'www.example.com'],
    ['*.example.com', '*.example.com'],
    ['*', '*'],
  ];
  for (const [host, expected] of resolved) {
    it(`${host} in namespace app is ${expected}`, () => {
      assert.equal(resolveHost(host, 'app', 'cluster.local'), expected);
    });
  }

  it('a wildcard covers names below it and not itself', () => {
    assert.equal(hostMatches('*.example.com', 'a.example.com'), true);
    assert.equal(hostMatches('*.example.com', 'example.com'), false);
    assert.equal(hostMatches('*.example.com', 'badexample.com'), false);
    assert.equal(hostMatches('*', 'anything'), true);
  });

  for (const host of ['a', 'a.b', '*.b', '*', 'a-b.c.', '10.0.0.1']) {
    it(`${host} is valid`, () => assert.equal(isValidHost(host), true));
  }
  for (const host of ['', 'a..b', '-a', 'a b', 'a*', '*a', 'x'.repeat(64), 'a/b']) {
    it(`${JSON.stringify(host.slice(0, 20))} is not valid`, () =>
      assert.equal(isValidHost(host), false));
  }
});

describe('policy values', () => {
  it('stars at either end make patterns', () => {
    assert.deepEqual(parsePattern('a'), { kind: 'exact', text: 'a' });
    assert.deepEqual(parsePattern('a*'), { kind: 'prefix', text: 'a' });
    assert.deepEqual(parsePattern('*a'), { kind: 'suffix', text: 'a' });
    assert.deepEqual(parsePattern('*'), { kind: 'presence' });
    assert.deepEqual(parsePattern('a*b'), { kind: 'exact', text: 'a*b' });
  });

  it('an address alone is a block of one', () => {
    assert.equal(parseBlock('10.0.0.1')?.length, 32);
    assert.equal(parseBlock('::1')?.length, 128);
    assert.equal(parseBlock('10.0.0.0/8')?.length, 8);
  });
  for (const text of ['10.0.0.0/33', '10.0.0', 'x', '10.0.0.0/8/8', '10.0.0.0/', '::1/129']) {
    it(`${text} is no block`, () => assert.equal(parseBlock(text), undefined));
  }
  for (const text of ['-1', '65536', 'http', '', '80.5']) {
    it(`${JSON.stringify(text)} is no port`, () => assert.equal(parsePort(text), undefined));
  }
});

describe('path templates', () => {
  const matches: readonly (readonly [string, string, boolean])[] = [
    ['/foo/{*}', '/foo/bar', true],
    ['/foo/{*}', '/foo/bar/baz', false],
    ['/foo/{*}', '/foo/', false],
    ['/foo/{**}', '/foo/bar/baz', true],
    ['/foo/{*}/bar/{**}', '/foo/x/bar/y/z', true],
    ['/foo/{*}/bar', '/foo/x/y/bar', false],
    ['/a.b/{*}', '/axb/c', false],
  ];
  for (const [template, path, expected] of matches) {
    it(`${template} ${expected ? 'matches' : 'does not match'} ${path}`, () => {
      assert.equal(pathTemplateProblem(template), undefined);
      assert.equal(RE2JS.matches(pathTemplateRegex(template), path), expected);
    });
  }
  for (const template of ['/foo/{**}/{*}', '/foo/x{*}', '/{foo}/{*}', 'foo/{*}', '/a*/{*}']) {
    it(`${template} is refused`, () => assert.notEqual(pathTemplateProblem(template), undefined));
  }
});

describe('regular expressions', () => {
  it('are RE2: no look-ahead, no back-references', () => {
    assert.equal(regexProblem('(a+)+$'), undefined);
    assert.match(regexProblem('(?=a)') ?? '', /RE2/);
    assert.match(regexProblem('(a)\\1') ?? '', /RE2/);
    assert.match(regexProblem('a'.repeat(2000)) ?? '', /longer/);
  });
});
