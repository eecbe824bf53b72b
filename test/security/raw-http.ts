// HTTP as the bytes that are written here, for requests that no client library would send.
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';

export interface RawAnswer {
  status: number;
  head: string;
  body: Record<string, unknown>;
}

/** Sends one request with exactly these header lines and reads the answer to the end of the connection. */
export async function rawRequest(
  url: string,
  method: string,
  target: string,
  headers: readonly string[] = [],
  body = '',
): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  const lines = [`${method} ${target} HTTP/1.1`, ...headers, 'Connection: close'];
  if (!headers.some((line) => /^host:/i.test(line))) lines.splice(1, 0, `Host: ${hostname}:${port}`);
  if (body !== '') lines.push(`Content-Length: ${Buffer.byteLength(body)}`);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`);
  const answer = await text(socket).catch(() => '');
  const end = answer.indexOf('\r\n\r\n');
  const head = answer.slice(0, end);
  const status = Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
  const json = /\{.*\}/s.exec(answer.slice(end + 4))?.[0];
  let parsed: Record<string, unknown> = {};
  try {
    if (json !== undefined) parsed = JSON.parse(json) as Record<string, unknown>;
  } catch {
    // Not JSON: only the status counts.
  }
  return { status, head, body: parsed };
}
