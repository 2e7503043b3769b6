/** The item bias as bytes: opinions of cloud models, each a few items with a value that is added to their scores. */
import { type Bytes, reader, view } from "./bytes";
import { float16 } from "./codec";
import { refuse } from "./refused";

const VARINT_BYTES = 5;
/** The most that an item with its value takes. */
export const PAIR_BYTES = VARINT_BYTES + 1;

/** One opinion: item indices, ascending, and their values, above 0. */
export interface ItemBias {
  items: Int32Array;
  values: Float32Array;
}

/** The opinions of a version of `vocabulary` item indices; `most` items each. */
export function decodeBias(content: Uint8Array, vocabulary: number, most: readonly number[]): ItemBias[] {
  const unsound = (): never => refuse("malformed", "has an unsound item bias");
  const { left, take, varint } = reader(content as Bytes, unsound);
  const opinions = most.map((limit) => {
    const count = varint(VARINT_BYTES);
    if (count > limit) unsound();
    const found = { items: new Int32Array(count), values: new Float32Array(count) };
    if (!count) return found;
    const scale = float16(view(take(2)), 0);
    if (!Number.isFinite(scale)) refuse("not-finite", "is not finite");
    for (let place = 0, item = 1; place < count; place++) {
      const step = varint(VARINT_BYTES);
      item += step;
      if (!step || item >= vocabulary || scale <= 0) unsound();
      found.items[place] = item;
    }
    take(count).forEach((value, place) => (found.values[place] = (value || unsound()) * scale));
    return found;
  });
  return left() ? unsound() : opinions;
}
