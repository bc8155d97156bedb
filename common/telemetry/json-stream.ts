// Large JSON documents piece by piece, indented by two: a dump of 100,000 workloads must not exist as one text.

const PIECE_CHARS = 65_536;

/** The document's text. A value that is a generator becomes an array, an item at a time. */
export function* streamJson(document: Readonly<Record<string, unknown>>): Generator<string> {
  let piece = '{';
  let separator = '\n';
  for (const [key, value] of Object.entries(document)) {
    if (value === undefined) continue;
    piece += `${separator}  ${JSON.stringify(key)}: `;
    separator = ',\n';
    if (!isGenerator(value)) {
      piece += indented(value, '  ');
      continue;
    }
    piece += '[';
    let itemSeparator = '\n';
    for (const item of value) {
      piece += `${itemSeparator}    ${indented(item ?? null, '    ')}`;
      itemSeparator = ',\n';
      if (piece.length < PIECE_CHARS) continue;
      yield piece;
      piece = '';
    }
    piece += itemSeparator === '\n' ? ']' : '\n  ]';
  }
  yield `${piece}\n}\n`;
}

function indented(value: unknown, indent: string): string {
  return JSON.stringify(value, undefined, 2).replaceAll('\n', `\n${indent}`);
}

function isGenerator(value: unknown): value is Generator {
  return typeof value === 'object' && value !== null && 'next' in value && 'throw' in value;
}
