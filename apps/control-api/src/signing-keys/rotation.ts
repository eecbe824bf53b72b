// When a signing key signs, verifies and goes. Pure. A key is published before it signs, so that whoever keeps our
// JWKS for a few minutes knows it; it verifies until the last token that it signed has expired.
export const keyStates = ['next', 'current', 'previous', 'retired'] as const;
export type KeyState = (typeof keyStates)[number];

/** How long a key is in the JWKS before it signs. */
export const PUBLISHED_MS = 10 * 60_000;
export const ROTATE_AFTER_MS = 30 * 86_400_000;
/** Life of an access token, the leeway of a verifier, and a minute. */
export const VERIFIES_MS = (900 + 60 + 60) * 1_000;
/** Keys that verify at once: rotating by hand is refused beyond. */
export const PREVIOUS_MAX = 50;

export interface KeyAge {
  kid: string;
  state: KeyState;
  createdAt: Date;
  activatedAt: Date | null;
  demotedAt: Date | null;
  neededUntil: Date | null;
}

/** Milliseconds until `next` may sign; 0 when it may. */
export function publishedInMs(next: KeyAge, at: Date): number {
  return Math.max(0, next.createdAt.getTime() + PUBLISHED_MS - at.getTime());
}

/** True when the schedule wants another key to sign. */
export function isRotationDue(keys: readonly KeyAge[], at: Date): boolean {
  const current = keys.find((key) => key.state === 'current');
  const next = keys.find((key) => key.state === 'next');
  if (current === undefined || next === undefined || publishedInMs(next, at) > 0) return false;
  return at.getTime() - (current.activatedAt ?? current.createdAt).getTime() >= ROTATE_AFTER_MS;
}

/** Keys whose last token has expired. */
export function outlived(keys: readonly KeyAge[], at: Date): string[] {
  return keys
    .filter((key) => {
      if (key.state !== 'previous' || key.demotedAt === null) return false;
      const last = Math.max(key.demotedAt.getTime() + VERIFIES_MS, key.neededUntil?.getTime() ?? 0);
      return last <= at.getTime();
    })
    .map((key) => key.kid);
}

/** The key that signed before the current one. */
export function lastSigner(keys: readonly KeyAge[]): KeyAge | null {
  const previous = keys.filter((key) => key.state === 'previous');
  const when = (key: KeyAge): number => key.demotedAt?.getTime() ?? 0;
  return previous.sort((a, b) => when(b) - when(a))[0] ?? null;
}
