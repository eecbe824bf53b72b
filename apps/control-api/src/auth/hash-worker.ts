// One thread that hashes, one password after the other. It runs below every other thread of the machine: a flood of
// sign-ins takes the time that nobody else wants. Answers what hashing.ts asked, in order.
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { hashSync, verifySync } from '@node-rs/argon2';
import type { HashAnswer, HashJob } from './hashing.js';

/** On Linux a thread's own, and of the threads that it starts; elsewhere the whole process must not be slowed. */
const NICE = 19;
/** The library's number of Argon2id. */
const ARGON2ID = 2;

if (process.platform === 'linux') setPriority(0, NICE);

parentPort?.on('message', (job: HashJob) => parentPort?.postMessage(answer(job)));

function answer({ password, against, parameters }: HashJob): HashAnswer {
  try {
    if (against !== undefined) return { matches: verifySync(against, password) };
    return { hash: hashSync(password, { ...parameters, algorithm: ARGON2ID }) };
  } catch (error) {
    // The library's messages tell of the hash's form, never of the password.
    return { failed: (error as Error).message };
  }
}
