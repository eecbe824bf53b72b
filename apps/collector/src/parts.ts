// Puts the parts of a frame together: in order, one frame at a time, never more bytes than a frame may have.
import { AppError } from '@penstock/domain/errors';
import { FRAME_BYTES_MAX, MESSAGE_BYTES_MAX } from '@penstock/domain/terms';
import type { FramePart } from '@penstock/rpc/gen/penstock/usage/v1/usage';

export const PARTS_MAX = 64;

export interface WholeFrame {
  epoch: number;
  seq: bigint;
  bytes: Buffer;
  signature: Buffer;
  traceparent: string;
}

export class Assembler {
  private parts: Buffer[] = [];
  private bytes = 0;
  private epoch = 0;
  private seq = 0n;

  /** The frame when this was its last part, else null. Throws frame_malformed or frame_too_large. */
  add(part: FramePart): WholeFrame | null {
    if (part.data.length > MESSAGE_BYTES_MAX)
      throw new AppError('frame_too_large', 'a part is larger than 1 MiB', { field: 'part' });
    if (part.parts === 0 || part.parts > PARTS_MAX || part.part >= part.parts)
      throw malformed('a part has no sound number');
    // A new frame may begin at any time: the node starts over after Expected and Busy.
    if (part.part === 0) this.clear();
    else if (part.part !== this.parts.length || part.epoch !== this.epoch || part.seq !== this.seq)
      throw malformed('parts are not in order');
    this.epoch = part.epoch;
    this.seq = part.seq;
    this.bytes += part.data.length;
    if (this.bytes > FRAME_BYTES_MAX)
      throw new AppError('frame_too_large', 'the frame is larger than 16 MiB', { field: 'part' });
    this.parts.push(part.data);
    if (part.part + 1 < part.parts) return null;
    const bytes = this.parts.length === 1 ? part.data : Buffer.concat(this.parts);
    this.clear();
    return {
      epoch: part.epoch,
      seq: part.seq,
      bytes,
      signature: part.signature,
      traceparent: part.traceparent,
    };
  }

  private clear(): void {
    this.parts = [];
    this.bytes = 0;
  }
}

function malformed(message: string): AppError {
  return new AppError('frame_malformed', message, { field: 'part' });
}
