import { expect, it } from 'vitest';
import { Admission } from './admission.js';

it('runs so many at once, lets so many wait, and sends the rest away with a delay that spreads them', async () => {
  const depths: number[] = [];
  const admission = new Admission(
    { openMax: 2, queueMax: 3, retryMs: 100 },
    () => 0.5,
    (waiting) => depths.push(waiting),
  );
  const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
  let open = 0;
  let most = 0;
  const runs = gates.map((gate) =>
    admission.run(async () => {
      most = Math.max(most, ++open);
      await gate.promise;
      open--;
    }),
  );
  await expect(admission.run(() => Promise.resolve())).rejects.toMatchObject({
    code: 'unavailable',
    retryAfterMs: 200,
  });
  for (const gate of gates) gate.resolve();
  await Promise.all(runs);
  expect(most).toBe(2);
  expect(Math.max(...depths)).toBe(3);
  expect(depths.at(-1)).toBe(0);
  await expect(admission.run(() => Promise.reject(new Error('x')))).rejects.toThrow('x');
  expect(await admission.run(() => Promise.resolve(1))).toBe(1);
});
