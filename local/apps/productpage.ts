// The front of the book shop: one page put together from details and reviews, and the same as JSON.
import type { IncomingHttpHeaders } from 'node:http';
import { callService, sendJson, sendText, serveApp } from './http-app.ts';

const env = process.env;
const domain = env['SERVICES_DOMAIN'] ? `.${env['SERVICES_DOMAIN']}` : '';
const base = (name: string): string => {
  const upper = name.toUpperCase();
  const host = env[`${upper}_HOSTNAME`] ?? name;
  return `http://${host}${domain}:${env[`${upper}_SERVICE_PORT`] ?? '9080'}/${name}`;
};
const PRODUCTS = [
  {
    id: 0,
    title: 'The Comedy of Errors',
    descriptionHtml: 'A comedy by William Shakespeare, one of his shortest and most farcical.',
  },
];

interface Part {
  readonly status: number;
  readonly value: unknown;
}

interface Review {
  readonly reviewer: string;
  readonly text: string;
  readonly rating?: { readonly stars?: number; readonly color?: string; readonly error?: string };
}

async function ask(name: string, id: string, from: IncomingHttpHeaders): Promise<Part> {
  try {
    const { status, body } = await callService(`${base(name)}/${id}`, from);
    if (status === 200) return { status, value: JSON.parse(body) };
    return { status, value: { error: `Sorry, product ${name} are currently unavailable.` } };
  } catch {
    return { status: 503, value: { error: `Sorry, product ${name} are currently unavailable.` } };
  }
}

function escape(value: unknown): string {
  const text = typeof value === 'string' || typeof value === 'number' ? String(value) : '';
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
}

function reviewHtml({ reviewer, text, rating }: Review): string {
  const stars =
    rating?.stars === undefined
      ? escape(rating?.error)
      : `<font color="${escape(rating.color)}">${'&#9733;'.repeat(Math.max(0, Math.min(5, rating.stars)))}</font>`;
  return `<blockquote><p>${escape(text)}</p><small>${escape(reviewer)}</small> ${stars}</blockquote>`;
}

function page(details: Part, reviews: Part, user: string | undefined): string {
  const facts = Object.entries(details.value as Record<string, unknown>)
    .map(([key, value]) => `<dt>${escape(key)}</dt><dd>${escape(value)}</dd>`)
    .join('');
  const body = reviews.value as { error?: string; podname?: string; reviews?: Review[] };
  const list = body.reviews?.map(reviewHtml).join('\n') ?? `<p>${escape(body.error)}</p>`;
  return `<!doctype html>
<html><head><meta charset="utf-8"><title>Simple Bookstore App</title>
<style>body{font:16px sans-serif;max-width:60em;margin:2em auto}dt{font-weight:bold}</style></head>
<body><h1>${escape(PRODUCTS[0]?.title)}</h1><p>${escape(user === undefined ? '' : `Signed in as ${user}`)}</p>
<h2>Book Details</h2><dl>${facts}</dl>
<h2>Book Reviews</h2>
${list}
<p>Reviews served by: <u>${escape(body.podname)}</u></p></body></html>
`;
}

serveApp('productpage', Number(process.argv[2] ?? 9080), async (req, res, url) => {
  const { pathname } = url;
  const api = /^\/api\/v1\/products\/(\d+)(\/reviews|\/ratings)?$/.exec(pathname);
  if (pathname === '/productpage') {
    const [details, reviews] = await Promise.all([
      ask('details', '0', req.headers),
      ask('reviews', '0', req.headers),
    ]);
    const user = req.headers['end-user'];
    sendText(res, page(details, reviews, typeof user === 'string' ? user : undefined), 'text/html');
  } else if (pathname === '/' || pathname === '/index.html') {
    sendText(
      res,
      '<!doctype html><title>Simple Bookstore App</title><a href="/productpage">The Comedy of Errors</a>\n',
      'text/html',
    );
  } else if (pathname === '/api/v1/products') {
    sendJson(res, 200, PRODUCTS);
  } else if (api !== null) {
    const name = api[2]?.slice(1) ?? 'details';
    const { status, value } = await ask(name, api[1] ?? '0', req.headers);
    sendJson(res, status, value);
  } else {
    sendJson(res, 404, { error: 'not found' });
  }
});
