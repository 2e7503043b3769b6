/** The part of msgpack that cloud and device speak: maps, arrays, texts, bytes, whole numbers and nothing. */
import { type Bytes, text, utf8, view } from "./bytes";

export type Value = null | boolean | number | string | Uint8Array | Value[] | { [name: string]: Value };

const DEEPEST = 8;

/** The shortest form of each value, as msgspec writes it. */
export function encode(value: Value): Bytes {
  const parts: number[] = [];
  const big = (number: number, size: number): void => {
    for (; size--; ) parts.push(Math.floor(number / 256 ** size) % 256);
  };
  /** A length: within the first byte up to `most`, or behind a code for 1 (where `sizes` is 1), 2 or 4 bytes. */
  const head = (short: number, most: number, code: number, sizes: number, length: number): void => {
    if (length <= most) parts.push(short | length);
    else {
      const wide = length < 256 && sizes ? 0 : length < 65_536 ? 1 : 2;
      parts.push(code + wide - 1 + sizes);
      big(length, 2 ** wide);
    }
  };
  const write = (one: Value): void => {
    if (one === null) parts.push(0xc0);
    else if (typeof one === "number") {
      if (!Number.isSafeInteger(one) || one < 0) throw new TypeError("only whole numbers from 0 on are sent");
      const wide = one < 256 ? 0 : one < 65_536 ? 1 : one < 2 ** 32 ? 2 : 3;
      if (one > 127) parts.push(0xcc + wide);
      big(one, 2 ** wide);
    } else if (typeof one === "string" || one instanceof Uint8Array) {
      const isText = typeof one === "string";
      const content = isText ? utf8(one) : one;
      head(0xa0, isText ? 31 : -1, isText ? 0xd9 : 0xc4, 1, content.length);
      for (const byte of content) parts.push(byte);
    } else if (Array.isArray(one)) {
      head(0x90, 15, 0xdc, 0, one.length);
      one.forEach(write);
    } else {
      const entries = Object.entries(one);
      head(0x80, 15, 0xde, 0, entries.length);
      entries.flat().forEach(write);
    }
  };
  write(value);
  return Uint8Array.from(parts);
}

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
