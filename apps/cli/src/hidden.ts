// Secrets that a person gives: asked for on the terminal, which shows nothing of the answer, or all of standard input.
// They are never arguments, which other users of the machine can read.
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { AppError } from '@penstock/domain/errors';

/** What cannot be a password, a code or an address any more. */
const INPUT_CHARACTERS_MAX = 65_536;

const PASSWORD = 'Password: ';
export const APP_CODE = 'Code of your authenticator app: ';
const RECOVERY_CODE = 'Recovery code: ';

/** The answer to `question`. Throws invalid_input when it is given up (Ctrl-C, Ctrl-D). */
export async function readHidden(question: string): Promise<string> {
  if (!process.stdin.isTTY) return readInput();
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: nowhere, terminal: true });
  const ended = new Promise<never>((_resolve, reject) => {
    terminal.once('close', () => reject(new AppError('invalid_input', 'given up')));
  });
  try {
    process.stderr.write(question);
    return await Promise.race([terminal.question(''), ended]);
  } catch (error) {
    // Ctrl-C ends the question itself.
    if (error instanceof Error && error.name === 'AbortError')
      throw new AppError('invalid_input', 'given up');
    throw error;
  } finally {
    process.stderr.write('\n');
    ended.catch(() => undefined);
    terminal.close();
  }
}

/** Answers to several questions; from a script the lines of standard input. Throws invalid_input when one is missing. */
export async function readHiddenAll(questions: readonly string[]): Promise<string[]> {
  const answers: string[] = [];
  if (process.stdin.isTTY) for (const question of questions) answers.push(await readHidden(question));
  else answers.push(...(await readInput()).split(/\r?\n/));
  if (answers.length !== questions.length)
    throw new AppError('invalid_input', `standard input must have ${questions.length} lines`);
  return answers;
}

/** How a secret is asked for by an option: there is none but `-`, so that nobody sees it among the arguments. */
export type Asked = string | true;

export interface ProofOptions {
  code?: Asked;
  recoveryCode?: Asked;
}

export interface Proof {
  password: string;
  code?: string;
  recoveryCode?: string;
}

/**
 * The password and what the options announce beside it; from a script the password and the code as two lines of standard
 * input. Throws invalid_input for a code that is an argument.
 */
export async function readProof({ code, recoveryCode }: ProofOptions): Promise<Proof> {
  refuseArgument('--code', code);
  refuseArgument('--recovery-code', recoveryCode);
  if (code !== undefined && recoveryCode !== undefined)
    throw new AppError('invalid_input', 'give a code or a recovery code, not both');
  if (code === undefined && recoveryCode === undefined) return { password: await readHidden(PASSWORD) };
  const kind = code === undefined ? RECOVERY_CODE : APP_CODE;
  const [password = '', answer = ''] = await readHiddenAll([PASSWORD, kind]);
  return { password, [code === undefined ? 'recoveryCode' : 'code']: answer.trim() };
}

/** Throws invalid_input for a secret that is given as an argument. */
export function refuseArgument(name: string, given: Asked | undefined): void {
  if (given === undefined || given === true || given === '-') return;
  const why = 'other users of this machine can read arguments';
  throw new AppError(
    'invalid_input',
    `${name} takes no value, ${why}: it is asked for, or read from standard input`,
  );
}

/** All of standard input without its last line break. */
export async function readInput(): Promise<string> {
  let text = '';
  for await (const chunk of process.stdin) {
    text += String(chunk);
    if (text.length > INPUT_CHARACTERS_MAX) throw new AppError('invalid_input', 'standard input is too long');
  }
  return text.replace(/\r?\n$/, '');
}
