// The closed lists of the glossary (ARCHITECTURE.md): states, roles, engines, causes. One word a thing.

export const engines = ['xray', 'wireguard'] as const;
export type Engine = (typeof engines)[number];

/** Numbers of engines in frames; never reused. */
export const engineNumber: Record<Engine, number> = { xray: 1, wireguard: 2 };

export const roles = ['owner', 'admin', 'operator', 'auditor'] as const;
export type Role = (typeof roles)[number];

/** What an admin decided. */
export const adminStates = ['active', 'disabled', 'deleted'] as const;
export type AdminState = (typeof adminStates)[number];

/** What holds, decided by the scheduler from the admin's word, the quota and the time. */
export const effectiveStates = ['on_hold', 'active', 'limited', 'expired', 'disabled'] as const;
export type EffectiveState = (typeof effectiveStates)[number];

/** Whether nodes let it in. One on hold may connect: its first use starts it. */
export function hasAccess(state: EffectiveState | null): boolean {
  return state === 'active' || state === 'on_hold';
}

/** Why an access_change row was inserted. */
export const changeCauses = [
  'edit',
  'crossing',
  'expiry',
  'period',
  'node',
  'sweep',
  'tenant',
  'first_use',
] as const;
export type ChangeCause = (typeof changeCauses)[number];

export const meteringPeriods = ['none', 'day', 'week', 'month'] as const;
export type MeteringPeriod = (typeof meteringPeriods)[number];

/** The largest number of bytes we store (int8). */
export const BYTES_MAX = 9_223_372_036_854_775_807n;

/** One gRPC message at most. A larger frame travels in parts. */
export const MESSAGE_BYTES_MAX = 1024 * 1024;
/** One frame at most: the agent stretches windows rather than exceed it. */
export const FRAME_BYTES_MAX = 16 * 1024 * 1024;
