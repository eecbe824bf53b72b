// Log files of the stack's processes (0600). A process writes through its own descriptor, opened for appending,
// so it goes on when we die; a file that grew too large is copied aside and truncated under it.
// Called by supervised.ts and postgres.ts.
import { constants } from 'node:fs';
import { copyFile, open, stat, truncate, type FileHandle } from 'node:fs/promises';

export const logBytesMax = 10 * 1024 * 1024;

export function openLog(file: string): Promise<FileHandle> {
  return open(file, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o600);
}

/** Keeps one older generation (NAME.log.1). Lines written between copy and truncate are lost. */
export async function rotateLog(file: string): Promise<void> {
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  );
  if (size <= logBytesMax) return;
  await copyFile(file, `${file}.1`);
  await truncate(file);
}

/** The end of a log without stack frames, for telling why a process does not start. */
export async function lastLines(file: string, count: number, bytesMax = 16_384): Promise<string> {
  const handle = await open(file).catch(() => null);
  if (handle === null) return '';
  try {
    const { size } = await handle.stat();
    const length = Math.min(size, bytesMax);
    const buffer = Buffer.alloc(length);
    await handle.read(buffer, 0, length, size - length);
    const lines = buffer.toString('utf8').split('\n');
    const telling = lines.filter(
      (line) => line.trim() !== '' && !/^\s+(at |\^)|^Node\.js v|^\s*throw /.test(line),
    );
    return telling.slice(-count).join('\n');
  } finally {
    await handle.close();
  }
}
