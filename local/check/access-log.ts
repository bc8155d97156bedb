// Reading the proxies' access log in either of its formats.

/** Whether a line has this field with this value: `key="value"` in text, `"key":"value"` in JSON. */
export function hasField(line: string, key: string, value: string): boolean {
  return line.includes(` ${key}="${value}"`) || line.includes(`"${key}":"${value}"`);
}

/** Whether some line of a log has all these fields. */
export function hasLine(log: string, fields: Readonly<Record<string, string>>): boolean {
  return log
    .split('\n')
    .some((line) => Object.entries(fields).every(([key, value]) => hasField(line, key, value)));
}
