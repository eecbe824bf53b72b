import { test } from 'vitest';

/** Namespaces, WireGuard interfaces and ending a stranger's sockets need CAP_NET_ADMIN; a plain user has none. */
export const isRoot = process.getuid?.() === 0;

/** A test that runs as root alone; a plain user's run lists it as `needs root`. */
export const rootTest = test.skipIf(!isRoot);
