// Log levels by scope, the text and JSON forms of a line, and sinks that never hold up who logs.
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { constants } from 'node:fs';
import { describe, it } from 'node:test';
import { parseLevels } from '../../../../common/telemetry/log-levels.ts';
import { AsyncSink, BatchSink } from '../../../../common/telemetry/log-output.ts';
import { createLoggerRoot } from '../../../../common/telemetry/logger.ts';
import type { LogFormat, LoggerRoot } from '../../../../common/telemetry/logger.ts';

const NOW_MS = Date.UTC(2026, 10, 23, 2, 41, 7, 45);

function capture(
  level: string,
  format: LogFormat = 'plain',
): { root: LoggerRoot; text: () => string } {
  let text = '';
  const sink = {
    write: (line: string) => {
      text += line;
    },
    flush: () => undefined,
  };
  return { root: createLoggerRoot({ level, format, sink, now: () => NOW_MS }), text: () => text };
}

describe('log lines', () => {
  it('are tab separated text with bare addresses and numbers, as Istio writes them', () => {
    const { root, text } = capture('info');
    const fields = {
      'src.addr': '10.0.0.1:5',
      'src.workload': 'a',
      gone: undefined,
      bytes_sent: 7,
    };
    root.scope('access').info(fields, 'connection complete');
    assert.equal(
      text(),
      '2026-11-23T02:41:07.045000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:5 src.workload="a" bytes_sent=7\n',
    );
  });

  it('what a peer sent cannot break out of its field', () => {
    const { root, text } = capture('info');
    const evil = 'x" reason="fine"\ninfo\taccess';
    root.scope('access').error({ 'dst.hbone_addr': evil, error: evil }, 'connection complete');
    assert.equal(text().split('\n').length, 2);
    assert.equal(text().split('\t').length, 5);
    assert.match(text(), /error="x\\" reason=\\"fine\\"\\ninfo\\taccess"\n$/);
  });

  it('are JSON objects with the names of ztunnel', () => {
    const { root, text } = capture('info', 'json');
    root.scope('access').warn({ 'src.addr': '10.0.0.1:5', bytes_sent: 7 }, 'connection failed');
    assert.deepEqual(JSON.parse(text()), {
      level: 'warn',
      time: '2026-11-23T02:41:07.045000Z',
      scope: 'access',
      message: 'connection failed',
      'src.addr': '10.0.0.1:5',
      bytes_sent: 7,
    });
  });
});

describe('log levels', () => {
  it('reads lists, drops the crate name, refuses other words', () => {
    assert.deepEqual(parseLevels('ztunnel::proxy=debug,ACCESS=Off,warn'), {
      level: 'warn',
      scopes: new Map([
        ['proxy', 'debug'],
        ['ACCESS', 'off'],
      ]),
    });
    assert.equal(parseLevels('ztunnel=debug')?.level, 'debug');
    assert.equal(parseLevels('loud'), undefined);
    assert.equal(parseLevels('access=loud'), undefined);
  });

  it('change at run time by scope, add up, and go back', () => {
    const { root, text } = capture('info');
    const access = root.scope('access');
    const inbound = root.scope('proxy::inbound');
    assert.equal(inbound.isLevelEnabled('debug'), false);
    assert.equal(root.setLevels('proxy=debug'), true);
    assert.equal(root.setLevels('access=off'), true);
    inbound.debug({}, 'seen');
    access.error({}, 'not seen');
    assert.match(text(), /^[^\n]*\tdebug\tproxy::inbound\tseen\t\n$/);
    assert.equal(root.describeLevels(), 'proxy=debug,access=off,info');
    assert.equal(root.setLevels('info,x=loud'), false);
    assert.equal(root.setLevels('info', true), true);
    assert.equal(root.describeLevels(), 'info');
    assert.deepEqual(
      [access.isLevelEnabled('error'), inbound.isLevelEnabled('debug')],
      [true, false],
    );
  });

  it('a level that is off does no work', () => {
    const { root } = capture('off');
    const trap = new Proxy({}, { ownKeys: () => assert.fail('the fields were read') });
    root.scope('access').error(trap, 'nothing');
  });
});

describe('BatchSink', () => {
  it('hands lines over together, by size or after a while', () => {
    const batches: string[] = [];
    const timers: (() => void)[] = [];
    const sink = new BatchSink(
      (text) => batches.push(text),
      (_delay, fn) => {
        timers.push(fn);
        return { cancel: () => timers.splice(timers.indexOf(fn), 1) };
      },
    );
    sink.write('a\n');
    sink.write('b\n');
    assert.deepEqual([batches, timers.length], [[], 1]);
    timers[0]?.();
    assert.deepEqual([batches, timers.length], [['a\nb\n'], 0]);
    sink.write(`${'x'.repeat(40_000)}\n`);
    assert.equal(batches.length, 2);
  });
});

describe('AsyncSink', () => {
  it('a reader that stalls costs lines, which are counted, never time', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'ambient-log-'));
    const path = join(dir, 'pipe');
    assert.equal(spawnSync('mkfifo', [path]).status, 0);
    // Both ends, so that opening does not block; nothing reads.
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      const sink = new AsyncSink(fd);
      const line = `${'x'.repeat(999)}\n`;
      for (let i = 0; i < 10_000; i++) sink.write(line);
      assert.ok(sink.droppedLines > 5000 && sink.droppedLines < 6000, String(sink.droppedLines));
      await sink.end(50);
      // It has given up: what reads now gets what was written, and no more.
      const buffer = Buffer.alloc(1 << 20);
      assert.ok(readSync(fd, buffer) > 0);
      await new Promise((resolve) => setTimeout(resolve, 150));
      assert.throws(() => readSync(fd, buffer), { code: 'EAGAIN' });
    } finally {
      closeSync(fd);
      rmSync(dir, { recursive: true });
    }
  });

  it('writes everything in order to one that reads', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'ambient-log-'));
    const path = join(dir, 'log');
    const fd = openSync(path, 'w');
    try {
      const sink = new AsyncSink(fd);
      const lines = Array.from({ length: 5000 }, (_, i) => `line ${i}\n`);
      for (const line of lines) sink.write(line);
      await sink.end();
      assert.equal(readFileSync(path, 'utf8'), lines.join(''));
      assert.equal(sink.droppedLines, 0);
    } finally {
      closeSync(fd);
      rmSync(dir, { recursive: true });
    }
  });
});
