// The reviews service of the book shop. v1 shows no stars, v2 black and v3 red ones; they come from ratings.
import type { IncomingHttpHeaders } from 'node:http';
import { hostname } from 'node:os';
import { callService, sendJson, serveApp } from './http-app.ts';

const env = process.env;
const isRated = env['ENABLE_RATINGS'] === 'true';
const color = env['STAR_COLOR'] ?? 'black';
const domain = env['SERVICES_DOMAIN'] ? `.${env['SERVICES_DOMAIN']}` : '';
const ratingsHost = `${env['RATINGS_HOSTNAME'] ?? 'ratings'}${domain}`;
const ratingsPort = env['RATINGS_SERVICE_PORT'] ?? '9080';
const TEXTS = [
  'An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!',
  'Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.',
];

async function starsOf(
  id: string,
  from: IncomingHttpHeaders,
): Promise<Record<string, number> | undefined> {
  try {
    const answer = await callService(`http://${ratingsHost}:${ratingsPort}/ratings/${id}`, from);
    if (answer.status !== 200) return undefined;
    return (JSON.parse(answer.body) as { ratings: Record<string, number> }).ratings;
  } catch {
    return undefined;
  }
}

serveApp('reviews', Number(process.argv[2] ?? 9080), async (req, res, url) => {
  const id = /^\/reviews\/(\d+)$/.exec(url.pathname)?.[1];
  if (id === undefined) {
    sendJson(res, 404, { error: 'please provide numeric product id' });
    return;
  }
  const stars = isRated ? await starsOf(id, req.headers) : undefined;
  const rating = (reviewer: string): object => {
    if (!isRated) return {};
    if (stars === undefined)
      return { rating: { error: 'Ratings service is currently unavailable' } };
    return { rating: { stars: stars[reviewer] ?? -1, color } };
  };
  sendJson(res, 200, {
    id,
    podname: hostname(),
    version: env['SERVICE_VERSION'] ?? 'v1',
    clustername: env['CLUSTER_NAME'] ?? null,
    reviews: TEXTS.map((text, index) => ({
      reviewer: `Reviewer${index + 1}`,
      text,
      ...rating(`Reviewer${index + 1}`),
    })),
  });
});
