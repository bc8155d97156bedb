// The ratings service of the book shop: stars of two reviewers. Ratings can be posted and live in memory.
import { readBody, sendJson, serveApp } from './http-app.ts';

const MAX_PRODUCTS = 1000;
const posted = new Map<string, Record<string, number>>();

function parseRatings(text: string): Record<string, number> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const entries = Object.entries(value);
    return entries.every(([, stars]) => typeof stars === 'number')
      ? (value as Record<string, number>)
      : undefined;
  } catch {
    return undefined;
  }
}

serveApp('ratings', Number(process.argv[2] ?? 9080), async (req, res, url) => {
  const id = /^\/ratings\/(\d+)$/.exec(url.pathname)?.[1];
  if (id === undefined) {
    sendJson(res, 404, { error: 'please provide numeric product ID' });
    return;
  }
  if (req.method === 'POST') {
    const ratings = parseRatings(await readBody(req));
    if (ratings === undefined || posted.size >= MAX_PRODUCTS) {
      sendJson(res, 400, { error: 'please provide valid ratings JSON' });
      return;
    }
    posted.set(id, ratings);
  }
  sendJson(res, 200, { id: Number(id), ratings: posted.get(id) ?? { Reviewer1: 5, Reviewer2: 4 } });
});
