import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { layOutGraph, type Graph } from '../../../../controlplane/dashboard/layout.ts';

const edge = (text: string): { source: string; destination: string } => {
  const [source = '', destination = ''] = text.split('>');
  return { source, destination };
};
const graphOf = (...texts: string[]): Graph => layOutGraph(texts.map(edge));
const columnsOf = (graph: Graph): Record<string, number> =>
  Object.fromEntries(graph.nodes.map(({ name, column }) => [name, column]));

describe('layout of the graph of services', () => {
  it('is empty without traffic', () => {
    assert.deepEqual(graphOf(), { columns: 0, rows: 0, nodes: [], links: [] });
  });

  it('puts callers left of what they call, by the longest way', () => {
    const graph = graphOf('load>page', 'page>reviews', 'load>reviews', 'reviews>ratings');
    assert.deepEqual(columnsOf(graph), { load: 0, page: 1, reviews: 2, ratings: 3 });
  });

  it('leads a link over several columns through a row of its own', () => {
    const graph = graphOf('load>page', 'page>reviews', 'load>reviews');
    const long = graph.links.find(
      ({ source, destination }) => source + destination === 'loadreviews',
    );
    assert.equal(long?.places.length, 3);
    const page = graph.nodes.find(({ name }) => name === 'page');
    assert.notEqual(long.places[1]?.row, page?.row, 'it would run through the node');
    assert.equal(long.places[1]?.column, page?.column);
  });

  it('makes one node of a service and the workloads behind it', () => {
    const graph = graphOf('load>reviews', 'reviews-v1>ratings', 'reviews-v2>ratings');
    assert.deepEqual(columnsOf(graph), { load: 0, reviews: 1, ratings: 2 });
    assert.deepEqual(
      graph.links.map(({ edges }) => edges),
      [[0], [1, 2]],
    );
  });

  it('ends with services that call each other', () => {
    const graph = graphOf('a>b', 'b>a', 'a>a');
    assert.equal(graph.nodes.length, 2);
    assert.equal(graph.links.length, 2);
  });

  it('avoids a crossing that order can avoid', () => {
    const graph = graphOf('a>z', 'b>y');
    const row = (name: string): number =>
      graph.nodes.find((node) => node.name === name)?.row ?? NaN;
    assert.equal(row('a') < row('b'), row('z') < row('y'));
  });

  it('never puts two things in one place', () => {
    const graph = graphOf('a>b', 'a>c', 'a>d', 'b>d', 'c>d', 'a>e', 'd>e', 'b>e');
    const places = graph.nodes.map(({ column, row }) => `${column} ${row}`);
    const between = graph.links.flatMap(({ places: all }) =>
      all.slice(1, -1).map(({ column, row }) => `${column} ${row}`),
    );
    const all = [...places, ...between];
    assert.equal(new Set(all).size, all.length, all.join(', '));
  });
});
