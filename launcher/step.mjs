// What every step of the launcher shares: one line that says what it does and how long it took, running a
// command by its arguments (never a shell), and ending with one clear sentence when something is broken.
// Plain JavaScript for Node 20, no dependencies: it runs before anything is installed.
// Called by every other file of this folder.

import { spawn } from 'node:child_process';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Absolute path of the clone. */
export const repo = dirname(dirname(fileURLToPath(import.meta.url)));
/** Everything that can be fetched or built again: toolchain, stamps, engines. */
export const cache = join(repo, '.cache');

/** A broken thing that the person at the terminal can mend: printed as one sentence, exit code 1. */
export class LauncherError extends Error {}

/** `12.3 s` for a duration in milliseconds. */
export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

/**
 * Runs `work` and prints one line when it ends. What `work` returns as `note` is shown behind the name.
 * On a terminal the line is visible while the work goes on.
 */
export async function step(name, work) {
  const started = performance.now();
  const live = process.stdout.isTTY;
  if (live) process.stdout.write(`  … ${name}`);
  const clear = live ? '\r\x1b[K' : '';
  try {
    const note = await work();
    const suffix = typeof note === 'string' ? `: ${note}` : '';
    process.stdout.write(`${clear}  ✔ ${name}${suffix} (${seconds(performance.now() - started)})\n`);
  } catch (error) {
    process.stdout.write(`${clear}  ✘ ${name} (${seconds(performance.now() - started)})\n`);
    throw error;
  }
}

/**
 * Environment for the tools we start: the caller's, without what `npm run` adds about our own package
 * (a nested npm or pnpm would take `npm_config_local_prefix` and friends for its own settings).
 */
export function toolEnv(extra = {}) {
  const env = {};
  for (const [key, value] of Object.entries(process.env)) {
    if (/^npm_(package|lifecycle|command|node_execpath|execpath)/.test(key)) continue;
    if (
      /^npm_config_(local_prefix|global_prefix|prefix|noproxy|node_gyp|user_agent|npm_version)$/.test(key)
    ) {
      continue;
    }
    env[key] = value;
  }
  return { ...env, ...extra };
}

/** Runs a program to its end; gives its exit code (null: a signal ended it) and what it said. */
export function runCaptured(command, args, { echoErrors = false, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: repo,
      env: toolEnv(),
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const stdout = [];
    const stderr = [];
    child.stdout.on('data', (chunk) => stdout.push(chunk));
    child.stderr.on('data', (chunk) => {
      stderr.push(chunk);
      if (echoErrors) process.stdout.write(`${process.stdout.isTTY ? '\r\x1b[K' : ''}${chunk}`);
    });
    child.on('error', (error) => reject(new LauncherError(`Cannot run ${command}: ${error.message}.`)));
    child.on('close', (code, signal) => {
      const text = (chunks) => Buffer.concat(chunks).toString('utf8');
      resolve({ code, signal, stdout: text(stdout), stderr: text(stderr) });
    });
  });
}

/**
 * Runs a program to its end and gives its output; throws a LauncherError with the last lines of what it
 * said when it fails. Hosts are masked: an error must not tell which mirror a machine uses.
 */
export async function capture(command, args, { tailLines = 15, ...options } = {}) {
  const { code, signal, stdout, stderr } = await runCaptured(command, args, options);
  if (code === 0) return stdout;
  const tail = maskHosts(`${stdout}${stderr}`).trim().split('\n').slice(-tailLines).join('\n');
  const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
  throw new LauncherError(`${basename(command)} ${args[0] ?? ''} failed with ${how}.\n${tail}`);
}

/** Runs a program on this terminal and gives its exit code; signals that we get are passed on. */
export function runAttached(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: repo, env: toolEnv(), stdio: 'inherit', ...options });
    const pass = (signal) => child.kill(signal);
    const signals = ['SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, pass);
    // A Ctrl-C reaches the whole foreground group, the child too, but `kill -INT` of npm reaches only us: told
    // as SIGTERM, which a child that is stopping already takes as the same wish.
    const interrupted = () => child.kill('SIGTERM');
    process.on('SIGINT', interrupted);
    child.on('error', (error) => reject(new LauncherError(`Cannot run ${command}: ${error.message}.`)));
    child.on('close', (code, signal) => {
      for (const name of signals) process.off(name, pass);
      process.off('SIGINT', interrupted);
      resolve(code ?? (signal === 'SIGINT' ? 130 : 1));
    });
  });
}

function maskHosts(text) {
  return text.replace(/https?:\/\/[^/\s'"]+/g, 'https://…');
}

/** Runs a launcher command: broken things end it with their sentence and exit code 1. */
export async function main(work) {
  try {
    process.exitCode = await work();
  } catch (error) {
    if (error instanceof LauncherError) process.stderr.write(`\n${error.message}\n`);
    else process.stderr.write(`\n${maskHosts(String(error?.stack ?? error))}\n`);
    process.exitCode = 1;
  }
}
