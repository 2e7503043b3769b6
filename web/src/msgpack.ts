/** The part of msgpack that cloud and device speak, read: maps, arrays, texts, bytes, whole numbers and nothing. */
import { text, view } from "./bytes";

export type Value = null | boolean | number | string | Uint8Array | Value[] | { [name: string]: Value };

const DEEPEST = 8;

/** The one value that these bytes are; anything else throws. */
export function decode(bytes: Uint8Array): Value {
  const data = view(bytes);
  let at = 0;
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new RangeError("it is cut");
    return bytes.slice(at, (at += length));
  };
  const number = (size: number): number => take(size).reduce((sum, byte) => sum * 256 + byte, 0);
  const read = (depth: number): Value => {
    if (depth > DEEPEST) throw new RangeError("it is too deep");
    const code = number(1);
    const list = (length: number): Value[] => {
      if (length > bytes.length - at) throw new RangeError("it is cut");
      return Array.from({ length }, () => read(depth + 1));
    };
    const map = (length: number): Value => {
      const found: { [name: string]: Value } = Object.create(null);
      for (; length; length--) {
        const name = read(depth + 1);
        if (typeof name !== "string" || name in found) throw new TypeError("a name is none, or is repeated");
        found[name] = read(depth + 1);
      }
      return found;
    };
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 15);
    if (code < 0xa0) return list(code & 15);
    if (code < 0xc0) return text(take(code & 31));
    if (code === 0xc0) return null;
    if ((code & 0xfe) === 0xc2) return code === 0xc3;
    if (code === 0xcb) return data.getFloat64((at += 8) - 8);
    const wide = 2 ** (code & 3);
    switch (code >> 2) {
      case 0xc4 >> 2:
        if (wide < 8) return take(number(wide));
        break;
      case 0xcc >> 2:
        return number(wide);
      case 0xd8 >> 2:
        if (wide > 1) return text(take(number(wide / 2)));
        break;
      case 0xdc >> 2:
        return (code & 2 ? map : list)(number(code & 1 ? 4 : 2));
    }
    throw new TypeError(`nothing begins with the byte ${code}`);
  };
  const found = read(0);
  if (at !== bytes.length) throw new RangeError("bytes are left over");
  return found;
}
