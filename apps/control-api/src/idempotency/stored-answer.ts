// An answer as it was sent the first time. Thrown by the interceptor instead of an answer of the handler, so that it
// takes the one way past the framework that sets status, headers and text as they stand (http/problem.filter.ts).
import type { FastifyReply } from 'fastify';

export class StoredAnswer {
  constructor(
    readonly status: number,
    readonly headers: Readonly<Record<string, string>>,
    readonly text: string,
  ) {}

  send(reply: FastifyReply): void {
    void reply
      .status(this.status)
      .headers(this.headers)
      .header('idempotent-replayed', 'true')
      .send(this.text);
  }
}
