// A transfer with checksums between two pods of a test mesh, up and then down over one connection.
import type { NetnsMesh } from './netns-mesh.ts';

/** What became of it. */
export interface TransferReport {
  readonly sent: number;
  /** At the server, and at the client of as many. */
  readonly arrived: number;
  readonly received: number;
  /** Both checksums. */
  readonly isRight: boolean;
  readonly upMs: number;
  readonly downMs: number;
}

const PORT = '8082';

/** Starts the server in a pod. */
export async function serveChecksums(mesh: NetnsMesh, pod: string): Promise<void> {
  await mesh.startScript(pod, ['test/support/checksum-server.ts', PORT]);
}

/** Sends and receives so many bytes; a slow reader pauses after each megabyte. */
export async function transfer(
  mesh: NetnsMesh,
  pod: string,
  host: string,
  bytes: number,
  pauseMs = 0,
): Promise<TransferReport> {
  const args = ['test/support/checksum-client.ts', host, PORT, bytes, pauseMs].map(String);
  return JSON.parse(await mesh.runScript(pod, args)) as TransferReport;
}
