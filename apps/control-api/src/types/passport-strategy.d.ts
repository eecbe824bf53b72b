// passport-strategy ships no types; this is the part that we use.
declare module 'passport-strategy' {
  export class Strategy {
    name?: string;
    authenticate(request: unknown, options?: unknown): void;
    success(user: object, info?: object): void;
    fail(challenge?: string | number, status?: number): void;
    error(error: Error): void;
  }
}
