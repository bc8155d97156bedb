// The details service of the book shop: facts about one book.
import { sendJson, serveApp } from './http-app.ts';

serveApp('details', Number(process.argv[2] ?? 9080), (_req, res, url) => {
  const id = /^\/details\/(\d+)$/.exec(url.pathname)?.[1];
  if (id === undefined) {
    sendJson(res, 404, { error: 'please provide numeric product id' });
    return;
  }
  sendJson(res, 200, {
    id: Number(id),
    author: 'William Shakespeare',
    year: 1595,
    type: 'paperback',
    pages: 200,
    publisher: 'PublisherA',
    language: 'English',
    'ISBN-10': '1234567890',
    'ISBN-13': '123-1234567890',
  });
});
