/** Values as msgpack: what a device says. */
import { type Bytes, utf8 } from "./bytes";
import type { Value } from "./msgpack";

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
