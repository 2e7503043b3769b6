/** The part of msgpack that cloud and device speak, read: maps, arrays, texts, bytes, whole numbers and nothing. */
import { type Bytes, reader, text, view } from "./bytes";

export type Value = null | boolean | number | string | Uint8Array | Value[] | { [name: string]: Value };

const DEEPEST = 8;

/** The one value that these bytes are; anything else throws. */
export function decode(bytes: Uint8Array): Value {
  const bad = (): never => {
    throw new TypeError("it is cut");
  };
  const { take, left } = reader(bytes as Bytes, bad);
  const number = (size: number): number => take(size).reduce((sum, byte) => sum * 256 + byte, 0);
  const read = (depth: number): Value => {
    const list = (length: number): Value[] => (length > left() ? bad() : Array.from({ length }, () => read(depth + 1)));
    const map = (length: number): Value => {
      const found: { [name: string]: Value } = Object.create(null);
      for (; length; length--) {
        const name = read(depth + 1);
        if (typeof name !== "string" || name in found) bad();
        found[name as string] = read(depth + 1);
      }
      return found;
    };
    const code = number(1);
    const kind = code >> 2;
    const wide = 2 ** (code & 3);
    if (depth > DEEPEST) bad();
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 15);
    if (code < 0xa0) return list(code & 15);
    if (code < 0xc0) return text(take(code & 31));
    if (code === 0xc0) return null;
    if (code >> 1 === 0xc2 >> 1) return code === 0xc3;
    if (code === 0xcb) return view(take(8)).getFloat64(0);
    // What is kept must not keep all that came with it.
    if (kind === 0xc4 >> 2 && wide < 8) return take(number(wide)).slice();
    if (kind === 0xcc >> 2) return number(wide);
    if (kind === 0xd8 >> 2 && wide > 1) return text(take(number(wide / 2)));
    return kind === 0xdc >> 2 ? (code & 2 ? map : list)(number(code & 1 ? 4 : 2)) : bad();
  };
  const found = read(0);
  return left() ? bad() : found;
}
