// Equal parts of decoded workloads are one object; different parts never are.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { decodeAddress } from '../../../../common/workload/decode.ts';
import { AddressSchema, AppProtocol } from '../../../../common/workload/gen/workload_pb.ts';
import type { Workload } from '../../../../common/workload/model.ts';
import { TextPool, ValuePool } from '../../../../common/workload/sharing.ts';

function decode(
  name: string,
  targetPort: number,
  zone: string,
  appProtocol: AppProtocol = AppProtocol.HTTP11,
): Workload {
  const value = {
    uid: name,
    locality: { region: 'r', zone },
    services: { 'ns/svc': { ports: [{ servicePort: 80, targetPort, appProtocol }] } },
  };
  const message = create(AddressSchema, { type: { case: 'workload', value } });
  const found = decodeAddress(toBinary(AddressSchema, message), name);
  assert.ok(found.kind === 'workload');
  return found.workload;
}

describe('sharing', () => {
  it('keeps ports and locality of endpoints once, and other ports apart', () => {
    const [one, two, three] = [
      decode('a', 8080, 'z1'),
      decode('b', 8080, 'z1'),
      decode('c', 9, 'z2'),
    ];
    assert.equal(one.services, two.services);
    assert.equal(one.locality, two.locality);
    assert.deepEqual(three.services, { 'ns/svc': [{ servicePort: 80, targetPort: 9 }] });
    assert.deepEqual(three.locality, { region: 'r', zone: 'z2', subzone: '' });
    assert.deepEqual([one.uid, two.uid], ['a', 'b']);
  });

  it('keeps a port that is declared to be no HTTP apart from one that is', () => {
    const ports = [AppProtocol.UNKNOWN, AppProtocol.HTTP2, AppProtocol.TCP, AppProtocol.TLS].map(
      (protocol) => decode('a', 7, 'z', protocol).services['ns/svc']?.[0]?.isOpaque ?? false,
    );
    assert.deepEqual(ports, [false, false, true, true]);
  });

  it('begins anew when it is full, with the values right all along', () => {
    const texts = new TextPool();
    const values = new ValuePool<{ readonly at: number }>();
    for (let at = 0; at < 40_000; at++) {
      assert.equal(texts.share(`t${at}`), `t${at}`);
      assert.equal(values.share(`v${at}`, { at }).at, at);
    }
    const first = values.share('again', { at: 1 });
    assert.equal(values.share('again', { at: 1 }), first);
  });
});
