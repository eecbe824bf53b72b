// How frames hang together: digests of a decoded frame, and what the next frame must name as its predecessor.
import { frameDigest, sliceDigest } from './digest.js';
import { ZERO_DIGEST, type FrameView } from './frame.js';

/** Digest of the frame and of each of its slices, in order. */
export function digestsOfFrame(frame: FrameView): { digest: Buffer; sliceDigests: Buffer[] } {
  const sliceDigests = frame.slices.map((slice) => sliceDigest(frame.headerBytes, slice));
  return { digest: frameDigest(frame.header.prevDigest, frame.headerBytes, sliceDigests), sliceDigests };
}

/**
 * What the successor names: a data frame's digest; a gap frame's lost digest, because the successor was signed before
 * the loss; the gap frame's own digest when nobody knows the lost one (its successor is lost too).
 */
export function frameLink(frame: Pick<FrameView, 'header'>, digest: Buffer): Buffer {
  const lost = frame.header.lostDigest;
  return lost === null || lost.equals(ZERO_DIGEST) ? digest : lost;
}
