/** The weights of theta as bytes: float32, float16, or int8 with a float16 scale a row, little endian. */
import { product, view } from "./bytes";
import type { Encoding } from "./messages";
import { RefusedParametersError } from "./refused";

/** A float16 by its bits. */
export function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

const BYTES = { float32: 4, float16: 2, int8: 1 };

/** Decodes the weights of one layout of tensors. */
export class ThetaCodec {
  readonly size: number;
  /** Length of each row: the last dimension of a tensor. */
  private readonly lengths: number[];

  constructor(shapes: readonly (readonly number[])[]) {
    this.size = shapes.reduce((total, shape) => total + product(shape), 0);
    this.lengths = shapes.flatMap((shape) => new Array<number>(product(shape.slice(0, -1))).fill(shape.at(-1)!));
  }

  decode(scale: Uint8Array, theta: Uint8Array, dtype: Encoding): Float32Array {
    const rows = dtype === "int8" ? this.lengths.length : 0;
    if (theta.length !== this.size * BYTES[dtype] || scale.length !== 2 * rows)
      throw new RefusedParametersError("malformed", "theta has not the size of this version's");
    const found = new Float32Array(this.size);
    const values = view(theta);
    if (dtype === "int8") {
      const scales = view(scale);
      let at = 0;
      this.lengths.forEach((length, row) => {
        const step = float16(scales.getUint16(2 * row, true));
        for (const end = at + length; at < end; at++) found[at] = values.getInt8(at) * step;
      });
    } else
      for (let at = 0; at < this.size; at++)
        found[at] = dtype === "float32" ? values.getFloat32(4 * at, true) : float16(values.getUint16(2 * at, true));
    if (!found.every(Number.isFinite)) throw new RefusedParametersError("not-finite", "theta is not finite");
    return found;
  }
}
