// Every state of a holder's proxies against every event: what is ordered then. Random lives are in
// drain-playbook.test.ts; with processes in test/cluster/restarts.test.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Fleet } from '../../../../ztunnel/holder/fleet.ts';
import type { FleetAction } from '../../../../ztunnel/holder/fleet.ts';

const STABLE = { code: 1, ranMs: 20_000 };

function serving(): Fleet {
  const fleet = new Fleet();
  fleet.begin();
  fleet.started(1);
  fleet.ready(1);
  return fleet;
}

function replacing(): Fleet {
  const fleet = serving();
  fleet.replace();
  fleet.started(2);
  return fleet;
}

/** How it comes to be; proxies are numbered in the order of their starts. */
const STATES = {
  'the first starts': () => {
    const fleet = new Fleet();
    fleet.begin();
    fleet.started(1);
    return fleet;
  },
  'one serves': serving,
  'its successor starts': replacing,
  'the old one drains': () => {
    const fleet = replacing();
    fleet.ready(2);
    return fleet;
  },
  'a dead one is to be started again': () => {
    const fleet = serving();
    fleet.exited(1, STABLE);
    return fleet;
  },
  'told to stop': () => {
    const fleet = serving();
    fleet.stop();
    return fleet;
  },
} satisfies Record<string, () => Fleet>;

type State = keyof typeof STATES;

const EVENTS: Readonly<Record<string, (fleet: Fleet) => FleetAction[]>> = {
  '1 is ready': (fleet) => fleet.ready(1),
  '2 is ready': (fleet) => fleet.ready(2),
  '1 takes too long': (fleet) => fleet.replacementTimedOut(1),
  '2 takes too long': (fleet) => fleet.replacementTimedOut(2),
  '1 ends': (fleet) => fleet.exited(1, STABLE),
  '2 ends': (fleet) => fleet.exited(2, STABLE),
  replace: (fleet) => fleet.replace(),
  stop: (fleet) => fleet.stop(),
  kill: (fleet) => fleet.kill(),
};

/** What is ordered, in this order; what is not written is nothing. */
const ORDERED: Readonly<Record<State, Readonly<Record<string, string>>>> = {
  'the first starts': {
    '1 ends': 'releaseSockets, exit 1',
    stop: 'releaseSockets, drain 1',
    kill: 'kill 1',
  },
  'one serves': {
    '1 ends': 'start',
    replace: 'start',
    stop: 'releaseSockets, drain 1',
    kill: 'kill 1',
  },
  'its successor starts': {
    '2 is ready': 'drain 1',
    '2 takes too long': 'kill 2',
    stop: 'releaseSockets, drain 2, drain 1',
    kill: 'kill 1, kill 2',
  },
  'the old one drains': {
    '2 ends': 'start',
    replace: 'start',
    stop: 'releaseSockets, drain 2',
    kill: 'kill 1, kill 2',
  },
  'a dead one is to be started again': { stop: 'releaseSockets, exit 0' },
  'told to stop': { '1 ends': 'exit 0', kill: 'kill 1' },
};

function textOf(action: FleetAction): string {
  if (action.kind === 'exit') return `exit ${action.code}`;
  return 'id' in action ? `${action.kind} ${action.id}` : action.kind;
}

describe('drain table', () => {
  for (const [state, make] of Object.entries(STATES) as [State, () => Fleet][]) {
    it(`when ${state}, each event has its orders and no others`, () => {
      for (const [event, happen] of Object.entries(EVENTS)) {
        const found = happen(make()).map(textOf).join(', ');
        assert.equal(found, ORDERED[state][event] ?? '', event);
      }
    });
  }
});
