// SEQPACKET sockets with descriptors, as ZDS uses them: boundaries, rights, close while waiting.
import assert from 'node:assert/strict';
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { SeqpacketServer, connectSeqpacket } from '../../../engine/reactor/seqpacket.ts';
import { StreamError } from '../../../engine/reactor/stream-error.ts';

const dir = mkdtempSync(join(tmpdir(), 'ambient-seq-'));
after(() => rmSync(dir, { recursive: true }));

describe('seqpacket', () => {
  it('keeps message boundaries and passes descriptors', async () => {
    const server = SeqpacketServer.listen(join(dir, 'a.sock'));
    const accepting = server.accept();
    const client = connectSeqpacket(server.path);
    const peer = await accepting;
    assert.ok(peer !== undefined);
    const fd = openSync('/proc/self/ns/net', 'r');
    client.send(Buffer.from('one'), [fd]);
    client.send(Buffer.from('two'));
    const first = await peer.receive();
    const second = await peer.receive();
    assert.equal(first?.data.toString(), 'one');
    assert.equal(fstatSync(first.fds[0] ?? -1).ino, fstatSync(fd).ino);
    assert.notEqual(first.fds[0], fd);
    assert.deepEqual([second?.data.toString(), second?.fds], ['two', []]);
    const answer = client.receive();
    peer.send(Buffer.from('ack'));
    assert.equal((await answer)?.data.toString(), 'ack');
    client.close();
    assert.equal(await peer.receive(), undefined);
    for (const held of [fd, ...first.fds]) closeSync(held);
    peer.close();
    server.close();
  });

  it('ends a pending receive and accept by close', async () => {
    const server = SeqpacketServer.listen(join(dir, 'b.sock'));
    const client = connectSeqpacket(server.path);
    const peer = await server.accept();
    const pending = client.receive();
    const accepting = server.accept();
    client.close();
    server.close();
    assert.equal(await pending, undefined);
    assert.equal(await accepting, undefined);
    peer?.close();
  });

  it('refuses to connect where nobody listens, and messages that are too long', () => {
    assert.throws(() => connectSeqpacket(join(dir, 'none.sock')), StreamError);
    const server = SeqpacketServer.listen(join(dir, 'c.sock'));
    const client = connectSeqpacket(server.path);
    assert.throws(() => client.send(Buffer.alloc(64 * 1024)), /too large/);
    client.close();
    server.close();
  });
});
