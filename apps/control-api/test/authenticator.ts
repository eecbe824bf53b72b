// An authenticator in software: makes P-256 passkeys and answers challenges as a phone and its browser would (WebAuthn
// level 3: authenticator data, COSE keys, CBOR), so that the product's verification is the real one.
import { createHash, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';

const USER_PRESENT = 0x01;
const USER_VERIFIED = 0x04;
const ATTESTED = 0x40;

export interface Flaw {
  origin?: string;
  site?: string;
  challenge?: string;
  flags?: number;
  counter?: number;
  /** Signs with another key. */
  forged?: boolean;
}

export class SoftwarePasskey {
  readonly id = randomBytes(32);
  readonly #keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  counter = 0;
  userHandle = '';

  constructor(
    private readonly origin: string,
    private readonly site: string,
  ) {}

  /** What navigator.credentials.create() gives for these options. */
  create(options: Record<string, unknown>, flaw: Flaw = {}, attestation?: Uint8Array): object {
    this.userHandle = (options['user'] as { id: string }).id;
    const clientDataJSON = this.#clientData('webauthn.create', String(options['challenge']), flaw);
    const { x = '', y = '' } = this.#keys.publicKey.export({ format: 'jwk' });
    const cose = map([
      [int(1), int(2)],
      [int(3), int(-7)],
      [int(-1), int(1)],
      [int(-2), bytes(Buffer.from(x, 'base64url'))],
      [int(-3), bytes(Buffer.from(y, 'base64url'))],
    ]);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(this.id.length);
    const attested = Buffer.concat([Buffer.alloc(16), length, this.id, cose]);
    const data = Buffer.concat([
      this.#data((flaw.flags ?? USER_PRESENT | USER_VERIFIED) | ATTESTED, flaw),
      attested,
    ]);
    const object =
      attestation ??
      map([
        [text('fmt'), text('none')],
        [text('attStmt'), map([])],
        [text('authData'), bytes(data)],
      ]);
    return this.#answer({ clientDataJSON, attestationObject: base64url(object), transports: ['internal'] });
  }

  /** What navigator.credentials.get() gives for these options. */
  get(options: Record<string, unknown>, flaw: Flaw = {}): object {
    this.counter += 1;
    const clientDataJSON = this.#clientData('webauthn.get', String(options['challenge']), flaw);
    const data = this.#data(flaw.flags ?? USER_PRESENT | USER_VERIFIED, flaw);
    const hash = createHash('sha256').update(Buffer.from(clientDataJSON, 'base64url')).digest();
    const key: KeyObject = flaw.forged
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
      : this.#keys.privateKey;
    const signature = sign('sha256', Buffer.concat([data, hash]), key);
    return this.#answer({
      ...{ clientDataJSON, authenticatorData: base64url(data), signature: base64url(signature) },
      userHandle: this.userHandle,
    });
  }

  #clientData(type: string, challenge: string, flaw: Flaw): string {
    const data = { type, challenge: flaw.challenge ?? challenge, origin: flaw.origin ?? this.origin };
    return base64url(Buffer.from(JSON.stringify({ ...data, crossOrigin: false })));
  }

  #data(flags: number, flaw: Flaw): Buffer {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(flaw.counter ?? this.counter);
    const site = createHash('sha256')
      .update(flaw.site ?? this.site)
      .digest();
    return Buffer.concat([site, Buffer.of(flags), counter]);
  }

  #answer(response: object): object {
    const id = base64url(this.id);
    return { id, rawId: id, type: 'public-key', clientExtensionResults: {}, response };
  }
}

const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');

// CBOR (RFC 8949), as much of it as an authenticator needs.
function head(major: number, value: number): Buffer {
  if (value < 24) return Buffer.of((major << 5) | value);
  if (value < 256) return Buffer.of((major << 5) | 24, value);
  return Buffer.of((major << 5) | 25, value >> 8, value & 0xff);
}
const int = (value: number): Buffer => (value < 0 ? head(1, -1 - value) : head(0, value));
const bytes = (value: Buffer): Buffer => Buffer.concat([head(2, value.length), value]);
const text = (value: string): Buffer => Buffer.concat([head(3, value.length), Buffer.from(value)]);
export const cbor = { int, bytes, text };
export function map(entries: [Buffer, Buffer][]): Buffer {
  return Buffer.concat([head(5, entries.length), ...entries.flat()]);
}
