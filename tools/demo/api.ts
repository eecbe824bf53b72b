// The product's REST API as an operator's script uses it. Called by product.ts and main.ts.
import { AppError } from '@penstock/domain/errors';

export type Answer = Record<string, unknown>;

const REQUEST_TIMEOUT_MS = 15_000;

export class Api {
  private readonly tenantTokens = new Map<string, string>();

  private constructor(
    private readonly baseUrl: string,
    private readonly ownerToken: string,
  ) {}

  /** Uses the one-time set-up token to become the first owner. */
  static async setUp(baseUrl: string, setupToken: string, password: string): Promise<Api> {
    const answer = await request(baseUrl, 'POST', '/api/v1/setup', undefined, {
      token: setupToken,
      email: 'owner@example.test',
      password,
      displayName: 'Owner',
    });
    return new Api(baseUrl, String(answer['accessToken']));
  }

  /** As the operator of the platform. */
  asOwner(method: string, path: string, body?: unknown): Promise<Answer> {
    return request(this.baseUrl, method, path, this.ownerToken, body);
  }

  /** In one tenant, with a token that reaches no other. */
  async inTenant(tenantId: string, method: string, path: string, body?: unknown): Promise<Answer> {
    let token = this.tenantTokens.get(tenantId);
    if (token === undefined) {
      token = String((await this.asOwner('POST', '/api/v1/auth/switch', { tenantId }))['accessToken']);
      this.tenantTokens.set(tenantId, token);
    }
    return request(this.baseUrl, method, path, token, body);
  }
}

/** `items` of a page, or of an answer that holds a list. */
export function itemsOf(answer: Answer): Answer[] {
  const { items } = answer;
  return Array.isArray(items) ? (items as Answer[]) : [];
}

async function request(
  baseUrl: string,
  method: string,
  path: string,
  token: string | undefined,
  body: unknown,
): Promise<Answer> {
  const headers: Record<string, string> = {};
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
  const response = await fetch(`${baseUrl}${path}`, {
    method,
    headers,
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const answer = (text === '' ? {} : JSON.parse(text)) as Answer;
  if (response.ok) return answer;
  throw new AppError(
    'internal',
    `${method} ${path} was answered ${response.status}: ${JSON.stringify(answer)}`,
  );
}
