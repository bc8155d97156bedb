// Which certificates the model of a node asks for ahead, and which it forgets.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { SecretManager } from '../../../../common/identity/secret-manager.ts';
import { ADDRESS_TYPE_URL } from '../../../../common/workload/decode.ts';
import { AddressSchema, TunnelProtocol } from '../../../../common/workload/gen/workload_pb.ts';
import { DeltaClient } from '../../../../common/xds/delta-client.ts';
import type { DeltaPush } from '../../../../common/xds/delta-push.ts';
import { MeshModel } from '../../../../ztunnel/state/model.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const idOf = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;
const turns = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
};

/** A model fed as by a control plane. */
function setUp(): {
  push: (workloads: Record<string, object>, removed?: string[]) => Promise<void>;
  identities: () => string[];
} {
  const clock = new FakeClock();
  const secrets = new SecretManager({
    clock,
    logger: quietLogger(),
    fetch: () => new Promise(() => undefined),
    onCertificate: () => undefined,
  });
  const data = { request: () => Promise.resolve({}) };
  const model = new MeshModel({ isLocal: ({ node }) => node === 'here', data, secrets });
  let onResponse: (push: DeltaPush) => void = () => undefined;
  const client = new DeltaClient({
    ...{ nodeId: 'n', nodeMetadata: {}, clock, logger: quietLogger() },
    subscriptions: model.subscriptions(),
    openStream: (events) => {
      onResponse = (push) => events.onResponse(push);
      return { send: () => undefined, close: () => undefined };
    },
  });
  client.start();
  return {
    push: async (workloads, removedResources = []) => {
      const resources = Object.entries(workloads).map(([uid, more]) => {
        const tunnelProtocol = TunnelProtocol.HBONE;
        const value = { uid, namespace: 'shop', node: 'here', tunnelProtocol, ...more };
        const address = create(AddressSchema, { type: { case: 'workload', value } });
        return { name: uid, version: '', aliases: [], value: toBinary(AddressSchema, address) };
      });
      onResponse({ typeUrl: ADDRESS_TYPE_URL, nonce: '1', removedResources, resources });
      await turns();
    },
    identities: () => secrets.states().map(({ identity }) => identity),
  };
}

describe('certificates of the node’s workloads', () => {
  it('are asked for ahead: of this node, with HBONE or a tunnel of their own', async () => {
    const { push, identities } = setUp();
    await push({
      hbone: { serviceAccount: 'hbone' },
      native: { serviceAccount: 'native', tunnelProtocol: 0, nativeTunnel: true },
      plain: { serviceAccount: 'plain', tunnelProtocol: 0 },
      remote: { serviceAccount: 'remote', node: 'there' },
    });
    assert.deepEqual(identities().sort(), [idOf('hbone'), idOf('native')]);
  });

  it('are of the trust domain of the record', async () => {
    const { push, identities } = setUp();
    await push({ a: { serviceAccount: 'a', trustDomain: 'other' } });
    assert.deepEqual(identities(), [idOf('a').replace('cluster.local', 'other')]);
  });

  it('are those of a push with what it removes gone: it is taken after what it brings', async () => {
    const { push, identities } = setUp();
    await push({ one: { serviceAccount: 'a' }, two: { serviceAccount: 'b' } }, ['one']);
    assert.deepEqual(identities(), [idOf('b')]);
  });

  it('are forgotten with the last workload of an identity', async () => {
    const { push, identities } = setUp();
    await push({ one: { serviceAccount: 'a' }, two: { serviceAccount: 'a' } });
    await push({}, ['one']);
    assert.deepEqual(identities(), [idOf('a')]);
    await push({}, ['two']);
    assert.deepEqual(identities(), []);
  });
});
