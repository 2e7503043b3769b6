/** The part of msgpack that cloud and device speak: maps, arrays, texts, bytes, whole numbers and nothing. */
import { type Bytes, text, utf8, view } from "./bytes";

export type Value = null | boolean | number | string | Uint8Array | Value[] | { [name: string]: Value };

const DEEPEST = 8;

/** The shortest form of each value, as msgspec writes it. */
export function encode(value: Value): Bytes {
  const parts: number[] = [];
  const head = (short: number, most: number, code: number, sizes: number, length: number): void => {
    if (length <= most) parts.push(short | length);
    else if (sizes && length < 256) parts.push(code, length);
    else if (length < 65_536) parts.push(code + sizes, length >> 8, length & 255);
    else parts.push(code + sizes + 1, ...big(length, 4));
  };
  const write = (one: Value): void => {
    if (one === null) parts.push(0xc0);
    else if (typeof one === "boolean") parts.push(one ? 0xc3 : 0xc2);
    else if (typeof one === "number") {
      if (!Number.isSafeInteger(one) || one < 0) throw new TypeError("only whole numbers from 0 on are sent");
      const size = one < 128 ? 0 : one < 256 ? 1 : one < 65_536 ? 2 : one < 2 ** 32 ? 4 : 8;
      if (size) parts.push(0xcc + Math.log2(size));
      parts.push(...big(one, size || 1));
    } else if (typeof one === "string") {
      const content = utf8(one);
      head(0xa0, 31, 0xd9, 1, content.length);
      for (const byte of content) parts.push(byte);
    } else if (one instanceof Uint8Array) {
      head(0, -1, 0xc4, 1, one.length);
      for (const byte of one) parts.push(byte);
    } else if (Array.isArray(one)) {
      head(0x90, 15, 0xdc, 0, one.length);
      one.forEach(write);
    } else {
      const entries = Object.entries(one);
      head(0x80, 15, 0xde, 0, entries.length);
      for (const [name, inner] of entries) {
        write(name);
        write(inner);
      }
    }
  };
  write(value);
  return Uint8Array.from(parts);
}

function big(number: number, size: number): number[] {
  return Array.from({ length: size }, (_, place) => Math.floor(number / 256 ** (size - 1 - place)) % 256);
}

/** The one value that these bytes are; anything else throws. */
export function decode(bytes: Uint8Array): Value {
  const data = view(bytes);
  let at = 0;
  const number = (size: number): number => {
    const from = at;
    at += size;
    if (size === 8) return data.getUint32(from) * 2 ** 32 + data.getUint32(from + 4);
    return size === 4 ? data.getUint32(from) : size === 2 ? data.getUint16(from) : data.getUint8(from);
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new RangeError("it is cut");
    return bytes.slice(at, (at += length));
  };
  const list = (length: number, depth: number): Value[] => {
    if (length > bytes.length - at) throw new RangeError("it is cut");
    return Array.from({ length }, () => read(depth));
  };
  const map = (length: number, depth: number): Value => {
    const found: { [name: string]: Value } = Object.create(null);
    for (; length; length--) {
      const name = read(depth);
      if (typeof name !== "string" || name in found) throw new TypeError("a name is none, or is repeated");
      found[name] = read(depth);
    }
    return found;
  };
  const read = (depth: number): Value => {
    if (depth > DEEPEST) throw new RangeError("it is too deep");
    const code = number(1);
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 15, depth + 1);
    if (code < 0xa0) return list(code & 15, depth + 1);
    if (code < 0xc0) return text(take(code & 31));
    switch (code) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return code === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return take(number(2 ** (code - 0xc4)));
      case 0xcb:
        at += 8;
        return data.getFloat64(at - 8);
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return number(2 ** (code - 0xcc));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return text(take(number(2 ** (code - 0xd9))));
      case 0xdc:
      case 0xdd:
        return list(number(2 * (code - 0xdb)), depth + 1);
      case 0xde:
      case 0xdf:
        return map(number(2 * (code - 0xdd)), depth + 1);
      default:
        throw new TypeError(`nothing begins with the byte ${code}`);
    }
  };
  const found = read(0);
  if (at !== bytes.length) throw new RangeError("bytes are left over");
  return found;
}
