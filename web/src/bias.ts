/** The item bias as bytes: opinions of cloud models, each a few items with a value that is added to their scores. */
import { view } from "./bytes";
import { float16 } from "./codec";
import { RefusedParametersError } from "./refused";

const VARINT_BYTES = 5;
/** The most that an item with its value takes. */
export const PAIR_BYTES = VARINT_BYTES + 1;

/** One opinion: item indices, ascending, and their values, above 0. */
export interface ItemBias {
  items: Int32Array;
  values: Float32Array;
}

const unsound = (): RefusedParametersError => new RefusedParametersError("malformed", "the item bias is unsound");

/** The opinions of a version of `vocabulary` item indices; `most` items each. */
export function decodeBias(content: Uint8Array, vocabulary: number, most: readonly number[]): ItemBias[] {
  let at = 0;
  const byte = (): number => {
    if (at >= content.length) throw unsound();
    return content[at++]!;
  };
  const varint = (): number => {
    for (let found = 0, place = 0; place < VARINT_BYTES; place++) {
      const next = byte();
      found += (next & 127) * 128 ** place;
      if (next < 128) {
        if (place && !next) break;
        return found;
      }
    }
    throw unsound();
  };
  const opinions = most.map((limit) => {
    const count = varint();
    if (count > limit) throw unsound();
    const found = { items: new Int32Array(count), values: new Float32Array(count) };
    if (!count) return found;
    if (at + 2 > content.length) throw unsound();
    const scale = float16(view(content).getUint16(at, true));
    at += 2;
    if (!Number.isFinite(scale)) throw new RefusedParametersError("not-finite", "the item bias is not finite");
    if (scale <= 0) throw unsound();
    for (let place = 0, item = 1; place < count; place++) {
      const step = varint();
      item += step;
      if (!step || item >= vocabulary) throw unsound();
      found.items[place] = item;
    }
    for (let place = 0; place < count; place++) {
      const value = byte();
      if (!value) throw unsound();
      found.values[place] = value * scale;
    }
    return found;
  });
  if (at !== content.length) throw unsound();
  return opinions;
}
