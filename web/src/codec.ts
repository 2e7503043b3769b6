/** The weights of theta as bytes: float32, float16, or int8 with a float16 scale a row, little endian. */
import { product, sizeOf, view } from "./bytes";
import type { Encoding } from "./messages";
import { refuse } from "./refused";

/** The float16 at a place. */
export function float16(values: DataView, at: number): number {
  const bits = values.getUint16(at, true);
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

const BYTES = { float32: 4, float16: 2, int8: 1 };

/** The weights of tensors of this layout. */
export function decodeTheta(layout: readonly { shape: number[] }[], scale: Uint8Array, theta: Uint8Array, dtype: Encoding): Float32Array {
  const found = new Float32Array(sizeOf(layout));
  const bytes = BYTES[dtype];
  // A row is the last dimension of a tensor.
  const rows = layout.flatMap(({ shape }) => new Array<number>(product(shape.slice(0, -1))).fill(shape.at(-1)!));
  if (theta.length !== found.length * bytes || scale.length !== (bytes > 1 ? 0 : 2 * rows.length))
    refuse("malformed", "has not the size of this version's");
  const values = view(theta);
  let at = 0;
  rows.forEach((length, row) => {
    const step = bytes > 1 ? 0 : float16(view(scale), 2 * row);
    for (const end = at + length; at < end; at++)
      found[at] = bytes > 2 ? values.getFloat32(4 * at, true) : bytes > 1 ? float16(values, 2 * at) : values.getInt8(at) * step;
  });
  if (!found.every(Number.isFinite)) refuse("not-finite", "is not finite");
  return found;
}
