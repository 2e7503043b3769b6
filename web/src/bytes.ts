/** Bytes, and the texts and numbers in them. */
export type Bytes = Uint8Array<ArrayBuffer>;

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

/** The text of some bytes; what is no UTF-8 throws. */
export const text = (bytes: Uint8Array): string => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const unhex = (digits: string): Bytes => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));

export const sum = (values: readonly number[]): number => values.reduce((one, other) => one + other, 0);

/** How many values an array of these dimensions has. */
export const product = (dims: readonly number[]): number => dims.reduce((one, other) => one * other, 1);

export const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Values of one of these layouts, or rows of such. */
export const sizeOf = (shapes: readonly { shape: number[] }[]): number => sum(shapes.map(({ shape }) => product(shape)));

/** What is read from bytes, one after the other. */
export interface Reader {
  left(): number;
  take(length: number): Bytes;
  /** A number of seven bits a byte, at most so many bytes, none too many; what has 64 bits is in two's complement. */
  varint(most: number): number;
}

export function reader(content: Bytes, cut: () => never): Reader {
  let at = 0;
  const take = (length: number): Bytes => {
    const part = content.subarray(at, (at += length));
    return part.length === length ? part : cut();
  };
  return {
    left: () => content.length - at,
    take,
    varint: (most) => {
      for (let found = 0n, place = 0; place < most; place++) {
        const byte = take(1)[0]!;
        found += BigInt(byte & 127) << BigInt(7 * place);
        if (byte < 128) return byte || !place ? Number(BigInt.asIntN(64, found)) : cut();
      }
      return cut();
    },
  };
}
