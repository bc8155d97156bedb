// A reporter for node:test, beside the one for people: what failed, with place and error, for the end of a run of several
// batches. There the reader looks, and some keep no more of a long output.
import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';

/** Takes the events of a run, gives a paragraph for each test that failed. */
export default async function* failures(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of source) {
    if (type !== 'test:fail') continue;
    const { error } = data.details;
    // A suite or a file, which failed because of what is in it.
    if ('failureType' in error && error.failureType === 'subtestsFailed') continue;
    const text = inspect(error.cause).replaceAll(/^/gm, '  ');
    yield `✖ ${data.name} (${data.file ?? ''}:${data.line ?? 0})\n${text}\n`;
  }
}
