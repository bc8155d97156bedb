// A proxy for tests of the holder: says that it is ready, and ends when it is to drain.
import { HolderClient } from '../../ztunnel/holder/holder-client.ts';

const end = (): never => process.exit(0);
const client = await HolderClient.open(3, {
  onDrain: end,
  onGone: () => undefined,
  onDraining: () => undefined,
  onLost: end,
});
await client.ready();
setInterval(() => undefined, 1000);
