// Large JSON documents piece by piece, indented by two: a dump of 100,000 workloads must not exist as one text.

const PIECE_CHARS = 65_536;

/** The document's text. A value that is a generator becomes an array, an item at a time. */
export function* streamJson(document: Readonly<Record<string, unknown>>): Generator<string> {
  let piece = '{';
  let separator = '\n';
  for (const [key, value] of Object.entries(document)) {
    const text = isGenerator(value) ? undefined : indented(value, '  ');
    if (text === undefined && !isGenerator(value)) continue;
    piece += `${separator}  ${JSON.stringify(key)}: ${text ?? '['}`;
    separator = ',\n';
    if (!isGenerator(value)) continue;
    let itemSeparator = '\n';
    for (const item of value) {
      piece += `${itemSeparator}    ${indented(item, '    ') ?? 'null'}`;
      itemSeparator = ',\n';
      if (piece.length < PIECE_CHARS) continue;
      yield piece;
      piece = '';
    }
    piece += itemSeparator === '\n' ? ']' : '\n  ]';
  }
  yield `${piece}\n}\n`;
}

/** Undefined where JSON has no such value. */
function indented(value: unknown, indent: string): string | undefined {
  const text: string | undefined = JSON.stringify(value, undefined, 2);
  return text?.replaceAll('\n', `\n${indent}`);
}

function isGenerator(value: unknown): value is Generator {
  return typeof value === 'object' && value !== null && 'next' in value && 'throw' in value;
}
