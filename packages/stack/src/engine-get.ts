// Gets an engine's program into the clone's cache: Xray's official release, pinned by its checksum, where it can be
// reached; else a build of the pinned Go module. Moved into place whole, so a reader never meets half a program.
// Called by engines.ts in the background of a start, and by npm test before the tests.
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '@penstock/domain/errors';
import { atLeast, xrayVersion } from './engine-find.js';
import { unzipFile } from './zip.js';

const run = promisify(execFile);

export const goFloor = [1, 26] as const;
const connectTimeoutMs = 5_000;
const downloadTimeoutMs = 300_000;
const archiveBytesMax = 64 * 1024 * 1024;
const buildTimeoutMs = 900_000;

const xrayModule = 'github.com/xtls/xray-core/main@v1.260327.0';
const wireguardModule = 'golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446';

const releaseUrl = 'https://github.com/XTLS/Xray-core/releases/download/v26.3.27';
/** SHA-256 of the official archives of v26.3.27. */
const releases: Readonly<Record<string, { file: string; sha256: string }>> = {
  'linux-x64': {
    file: 'Xray-linux-64.zip',
    sha256: '23cd9af937744d97776ee35ecad4972cf4b2109d1e0fe6be9930467608f7c8ae',
  },
  'linux-arm64': {
    file: 'Xray-linux-arm64-v8a.zip',
    sha256: '4d30283ae614e3057f730f67cd088a42be6fdf91f8639d82cb69e48cde80413c',
  },
};

export interface GoSettings {
  path: string;
  home: string;
  /** GOPROXY, GOFLAGS and the like, as the operator has them. */
  env: Readonly<Record<string, string>>;
}

/** Fetches Xray's release; throws unavailable where it cannot be had. */
export async function fetchXray(cache: string): Promise<void> {
  const release = releases[`${process.platform}-${process.arch}`];
  if (release === undefined)
    throw new AppError('unavailable', 'There is no pinned Xray release for this machine.');
  const archive = await download(`${releaseUrl}/${release.file}`);
  const sha256 = createHash('sha256').update(archive).digest('hex');
  if (sha256 !== release.sha256) {
    throw new AppError(
      'failed_precondition',
      `${release.file} has another checksum than the pinned one; not used.`,
    );
  }
  await place(cache, 'xray', unzipFile(archive, 'xray'));
  if ((await xrayVersion(join(cache, 'xray'))) === null) {
    await rm(join(cache, 'xray'), { force: true });
    throw new AppError('unavailable', 'The Xray release does not run on this machine.');
  }
}

/** Builds Xray from the pinned module (about 100 s on 2 cores). */
export async function buildXray(cache: string, go: GoSettings): Promise<void> {
  await goInstall(cache, go, xrayModule, 'main', 'xray');
}

/** Builds wireguard-go from the pinned module (seconds). */
export async function buildWireguard(cache: string, go: GoSettings): Promise<void> {
  await goInstall(cache, go, wireguardModule, 'wireguard', 'wireguard-go');
}

/** Path of a Go of the floor or later, or null. Where Go's own installer puts it counts as found. */
export async function findGo(settings: GoSettings): Promise<string | null> {
  for (const directory of [...settings.path.split(delimiter), '/usr/local/go/bin']) {
    const program = join(directory, 'go');
    const said = await run(program, ['version'], { env: goEnv(settings), timeout: 10_000 }).catch(() => null);
    const match = said === null ? null : /go(\d+)\.(\d+)/.exec(said.stdout);
    if (match !== null && atLeast(match.slice(1).map(Number), goFloor)) return program;
  }
  return null;
}

async function goInstall(
  cache: string,
  settings: GoSettings,
  module: string,
  made: string,
  name: string,
): Promise<void> {
  const go = await findGo(settings);
  if (go === null)
    throw new AppError('unavailable', `There is no Go ${goFloor.join('.')} or later to build it with.`);
  const scratch = join(cache, `build.${randomBytes(4).toString('hex')}`);
  await mkdir(scratch, { recursive: true });
  try {
    const env = { ...goEnv(settings), CGO_ENABLED: '0', GOBIN: scratch };
    const args = ['install', '-trimpath', '-ldflags', '-s -w', module];
    const { code, said } = await spawned(go, args, env);
    if (code !== 0) throw new AppError('unavailable', `Go could not build it: ${maskHosts(said)}`);
    await chmod(join(scratch, made), 0o755);
    await rename(join(scratch, made), join(cache, name));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** A build is stopped with us: it runs in our own group and is killed when the time is up. */
function spawned(
  program: string,
  args: string[],
  env: Record<string, string>,
): Promise<{ code: number; said: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'], timeout: buildTimeoutMs });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-600);
    });
    const onExit = (): void => void child.kill('SIGKILL');
    process.once('exit', onExit);
    child.once('error', (error) => resolve({ code: 1, said: error.message }));
    child.once('close', (code) => {
      process.off('exit', onExit);
      resolve({ code: code ?? 1, said: said.trim() });
    });
  });
}

function goEnv(settings: GoSettings): Record<string, string> {
  return { PATH: settings.path, HOME: settings.home, ...settings.env };
}

async function place(cache: string, name: string, content: Buffer): Promise<void> {
  await mkdir(cache, { recursive: true });
  const fresh = join(cache, `${name}.${randomBytes(4).toString('hex')}`);
  await writeFile(fresh, content, { mode: 0o755 });
  await rename(fresh, join(cache, name));
}

/** The connection must come within seconds; the body may take longer, and is bounded. */
async function download(url: string): Promise<Buffer> {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), connectTimeoutMs);
  try {
    const response = await fetch(url, { signal: abort.signal });
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), downloadTimeoutMs);
    if (!response.ok || response.body === null) {
      throw new AppError('unavailable', `The release page answered ${response.status}.`);
    }
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      bytes += chunk.length;
      if (bytes > archiveBytesMax) throw new AppError('unavailable', 'The release is larger than expected.');
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('unavailable', 'The release page cannot be reached.', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function maskHosts(text: string): string {
  return text.replace(/https?:\/\/[^/\s"]+/g, 'https://…');
}
