// CPU and heap profiles of a proxy over HTTP, by thread. Paths, parameters, bounds and refusals are those of Istio's
// ztunnel; the formats are V8's (profiler.ts).
import type { EndpointAnswer } from './http-endpoint.ts';
import type { CpuProfileRequest, HeapProfileAction } from './profiler.ts';
import { Profiler } from './profiler.ts';
import type { AdminRoute } from './proxy-endpoints.ts';

/** A thread that can be looked into. */
export interface ProfiledThread {
  cpu(request: CpuProfileRequest): Promise<string>;
  heap(action: HeapProfileAction): Promise<string>;
}

/** The routes of a proxy with these data threads; the calling thread is the control thread. */
export function profileRoutes(data: readonly ProfiledThread[]): Record<string, AdminRoute> {
  const control = new Profiler((delayMs, fn) => setTimeout(fn, delayMs));
  const threadOf = (url: URL): ProfiledThread | undefined => {
    const name = url.searchParams.get('thread') ?? 'data';
    if (name === 'control') return control;
    const [, number = '0'] = /^data(?:-(\d{1,4}))?$/.exec(name) ?? [undefined, '-1'];
    return data[Number(number)];
  };
  const badThread: EndpointAnswer = {
    status: 400,
    body: `thread must be data${data.length > 1 ? `, data-1 to data-${data.length - 1},` : ''} or control\n`,
  };
  return {
    '/debug/pprof/profile': {
      help: 'CPU profile (.cpuprofile): ?seconds=10 ?frequency=100 ?thread=data|control',
      handle: async (_request, url) => {
        const seconds = wholeOf(url, 'seconds', 10, 300);
        const frequencyHz = wholeOf(url, 'frequency', 100, 1000);
        const thread = threadOf(url);
        if (thread === undefined) return badThread;
        if (seconds === undefined || frequencyHz === undefined) {
          return { status: 400, body: 'seconds must be 1 to 300, frequency 1 to 1000\n' };
        }
        return json(await thread.cpu({ durationMs: seconds * 1000, frequencyHz }));
      },
    },
    '/debug/pprof/heap': {
      help: 'heap profile (.heapprofile) since it was activated: ?thread=data|control',
      handle: async (_request, url) => {
        const thread = threadOf(url);
        return thread === undefined ? badThread : json(await thread.heap('read'));
      },
    },
    '/debug/pprof/heap/profiling': {
      help: 'switches heap profiling: ?activate=true|false',
      handle: async (_request, url) => {
        const wanted = url.searchParams.get('activate');
        if (wanted !== 'true' && wanted !== 'false') {
          return { status: 400, body: 'activate must be true or false\n' };
        }
        const action = wanted === 'true' ? 'activate' : 'deactivate';
        await Promise.all([...data, control].map((thread) => thread.heap(action)));
        return { body: `heap profiling is ${action}d\n` };
      },
    },
  };
}

function json(body: string): EndpointAnswer {
  return { type: 'application/json', body };
}

function wholeOf(url: URL, name: string, fallback: number, max: number): number | undefined {
  const text = url.searchParams.get(name) ?? String(fallback);
  const value = /^\d+$/.test(text) ? Number(text) : 0;
  return value >= 1 && value <= max ? value : undefined;
}
