// endpoints.json: where everything is, for scripts, so that nobody need read our output. Written when the stack is
// ready and whenever something in it changed; holds no secret but the set-up link, while that is unused.
import { writePrivate } from './files.js';
import type { Supervised } from './supervised.js';

export interface Endpoints {
  api: string;
  nodeEdge: string;
  enrollEdge: string;
  usageEdge: string;
  /** Null once an owner exists. */
  setupUrl: string | null;
  processes: Record<string, { pid: number; health: string; metrics: string }>;
}

export type EdgeUrls = Pick<Endpoints, 'api' | 'nodeEdge' | 'enrollEdge' | 'usageEdge'>;

export function endpoints(
  edges: EdgeUrls,
  setupUrl: string | null,
  processes: Iterable<Supervised>,
): Endpoints {
  const listed: Endpoints['processes'] = {};
  for (const { name, pid, spec } of processes) {
    if (pid === null || spec.opsUrl === undefined) continue;
    listed[name] = { pid, health: `${spec.opsUrl}/health`, metrics: `${spec.opsUrl}/metrics` };
  }
  return { ...edges, setupUrl, processes: listed };
}

export async function writeEndpoints(file: string, content: Endpoints): Promise<void> {
  await writePrivate(file, `${JSON.stringify(content, null, 2)}\n`);
}
