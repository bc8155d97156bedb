// A thread with a reactor that ends by itself when it gets a message, for tests.
import { parentPort } from 'node:worker_threads';
import { Reactor } from '../../engine/reactor/reactor.ts';

const reactor = new Reactor();
parentPort?.on('message', () => process.exit(0));
reactor.start();
parentPort?.postMessage({ kind: 'ready', wakeFd: reactor.wakeFd });
