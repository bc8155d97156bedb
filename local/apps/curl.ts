// A stand-in for curl on machines that have none, with the options the samples and guides use.
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { writeFileSync } from 'node:fs';

const WITH_VALUE = new Set([
  ...['-H', '--header', '-X', '--request', '-d', '--data', '-o', '--output', '-w', '--write-out'],
  ...['-m', '--max-time', '--connect-timeout', '-A', '--user-agent', '-u', '--user', '--retry'],
]);

interface Options {
  url: string;
  method: string | undefined;
  body: string | undefined;
  headers: Record<string, string>;
  output: string | undefined;
  format: string;
  timeoutMs: number;
  flags: Set<string>;
}

function apply(options: Options, name: string, value: string): void {
  if (name === '-H' || name === '--header') {
    const colon = value.indexOf(':');
    options.headers[value.slice(0, colon).trim()] = value.slice(colon + 1).trim();
  } else if (name === '-X' || name === '--request') options.method = value;
  else if (name === '-d' || name === '--data') options.body = value;
  else if (name === '-o' || name === '--output') options.output = value;
  else if (name === '-w' || name === '--write-out') options.format = value;
  else if (name === '-A' || name === '--user-agent') options.headers['user-agent'] = value;
  else if (name === '-m' || name === '--max-time' || name === '--connect-timeout')
    options.timeoutMs = Number(value) * 1000;
}

function parse(args: readonly string[]): Options {
  const options: Options = {
    url: '',
    method: undefined,
    body: undefined,
    headers: { 'user-agent': 'curl/8', accept: '*/*' },
    output: undefined,
    format: '',
    timeoutMs: 0,
    flags: new Set(),
  };
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    const short = /^-[a-zA-Z]+$/.test(arg) ? Array.from(arg.slice(1), (c) => `-${c}`) : [arg];
    if (!arg.startsWith('-')) options.url = arg.includes('://') ? arg : `http://${arg}`;
    else
      for (const name of short) {
        if (WITH_VALUE.has(name)) apply(options, name, args[++index] ?? '');
        else options.flags.add(name);
      }
  }
  return options;
}

function finish(options: Options, status: number, out: string): never {
  const { format, output, flags } = options;
  if (output === undefined) process.stdout.write(out);
  else if (output !== '/dev/null') writeFileSync(output, out);
  const extra = format
    .replaceAll('\\n', '\n')
    .replaceAll('%{http_code}', String(status).padStart(3, '0'));
  process.stdout.write(extra);
  const isFailure = status >= 400 && [...flags].some((f) => f === '-f' || f === '--fail');
  process.exit(isFailure ? 22 : 0);
}

function run(options: Options): void {
  const { flags } = options;
  const isHead = flags.has('-I') || flags.has('--head');
  const make = options.url.startsWith('https:') ? httpsRequest : httpRequest;
  const method = options.method ?? (isHead ? 'HEAD' : options.body === undefined ? 'GET' : 'POST');
  const insecure = flags.has('-k') || flags.has('--insecure');
  const req = make(
    options.url,
    { method, headers: options.headers, rejectUnauthorized: !insecure },
    (res) => {
      let out = '';
      if (isHead || flags.has('-i') || flags.has('--include')) {
        out += `HTTP/${res.httpVersion} ${res.statusCode ?? 0} ${res.statusMessage ?? ''}\r\n`;
        for (const [name, value] of Object.entries(res.headers))
          out += `${name}: ${String(value)}\r\n`;
        out += '\r\n';
      }
      res.setEncoding('utf8');
      res.on('data', (chunk: string) => (out += chunk));
      res.on('end', () => finish(options, res.statusCode ?? 0, out));
    },
  );
  if (options.timeoutMs > 0) {
    setTimeout(
      () => req.destroy(Object.assign(new Error('timed out'), { exit: 28 })),
      options.timeoutMs,
    ).unref();
  }
  req.on('error', (err: NodeJS.ErrnoException & { exit?: number }) => {
    const code = err.exit ?? (err.code === 'ECONNREFUSED' ? 7 : err.code === 'ENOTFOUND' ? 6 : 56);
    if (!flags.has('-s') || flags.has('-S'))
      process.stderr.write(`curl: (${code}) ${err.message}\n`);
    process.stdout.write(options.format.replaceAll('\\n', '\n').replaceAll('%{http_code}', '000'));
    process.exit(code);
  });
  req.end(options.body);
}

run(parse(process.argv.slice(2)));
