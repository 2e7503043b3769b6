/** The part of ONNX that a graph of a bundle is made of, read from its protocol buffer. */
import { type Bytes, product, text, view } from "./bytes";
import { invalidBundle } from "./refusals";

export type Data = Float32Array | Int32Array | Int8Array | Uint8Array;
/** Values by dimensions; int64 as int32, and truths as bytes. */
export interface Tensor {
  dims: number[];
  data: Data;
}
export type Attribute = number | string | number[] | Tensor;
export interface Node {
  op: string;
  domain: string;
  inputs: string[];
  outputs: string[];
  attributes: Record<string, Attribute>;
}
export interface Graph {
  nodes: Node[];
  constants: Record<string, Tensor>;
  inputs: string[];
  outputs: string[];
}

/** A field of a message: its number, the number that it holds, and the bytes. */
type Field = [field: number, number: number, content: Bytes];

const NOTHING: Bytes = new Uint8Array(0);
const cut = (): never => {
  throw new RangeError("it is cut");
};

/** What is read from bytes, one after the other. */
class Reader {
  private at = 0;
  constructor(private readonly content: Bytes) {}

  get more(): boolean {
    return this.at < this.content.length;
  }

  take(length: number): Bytes {
    const part = this.content.subarray(this.at, (this.at += length));
    return length >= 0 && part.length === length ? part : cut();
  }

  /** A number of 64 bits, in two's complement: its lower 28 bits, and the others. */
  varint(): number {
    let low = 0;
    let high = 0;
    for (let place = 0; place < 10; place++) {
      const byte = this.content[this.at++] ?? cut();
      if (place < 4) low += (byte & 127) * 128 ** place;
      else high += (byte & 127) * 128 ** (place - 4);
      if (byte < 128) return (((high % 2 ** 36) + 2 ** 35) % 2 ** 36 - 2 ** 35) * 2 ** 28 + low;
    }
    throw new RangeError("a number is too long");
  }
}

function fields(content: Bytes): Field[] {
  const found: Field[] = [];
  const reader = new Reader(content);
  while (reader.more) {
    const key = reader.varint();
    const [field, wire] = [key >> 3, key & 7];
    if (!wire) found.push([field, reader.varint(), NOTHING]);
    else {
      const length = { 1: 8, 2: 0, 5: 4 }[wire] ?? -1;
      const part = reader.take(length || reader.varint());
      found.push([field, wire === 5 ? view(part).getFloat32(0, true) : 0, part]);
    }
  }
  return found;
}

const all = (of: Field[], field: number): Field[] => of.filter(([one]) => one === field);
const texts = (of: Field[], field: number): string[] => all(of, field).map(([, , content]) => text(content));
const first = (of: Field[], field: number): Field | undefined => all(of, field)[0];
const name = (of: Field[], field: number): string => texts(of, field)[0] ?? "";
/** Numbers, one by one or packed. */
const numbers = (of: Field[], field: number): number[] =>
  all(of, field).flatMap(([, one, content]) => {
    const found: number[] = [];
    for (const reader = new Reader(content); reader.more; ) found.push(reader.varint());
    return content.length ? found : one;
  });

export const int32 = (value: number): number => Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, value));

/** Typed arrays of each type of ONNX; they have the byte order of the machine: little endian, wherever a browser runs. */
const TYPES: Record<number, new (buffer: ArrayBuffer) => Data | BigInt64Array> = {
  1: Float32Array,
  2: Uint8Array,
  3: Int8Array,
  6: Int32Array,
  7: BigInt64Array,
  9: Uint8Array,
};

function tensor(content: Bytes): [string, Tensor] {
  const of = fields(content);
  const dims = numbers(of, 1);
  const type = TYPES[first(of, 2)?.[1] ?? 0];
  if (!type || first(of, 14)?.[1]) throw new RangeError("a tensor is of no known kind");
  const data = new type((first(of, 9)?.[2] ?? NOTHING).slice().buffer);
  if (data.length !== product(dims)) throw new RangeError("a tensor has not its size");
  return [name(of, 8), { dims, data: data instanceof BigInt64Array ? Int32Array.from<bigint>(data, (one) => int32(Number(one))) : data }];
}

function node(content: Bytes): Node {
  const of = fields(content);
  const attribute = ([, , part]: Field): [string, Attribute] => {
    const one = fields(part);
    const kind = first(one, 20)?.[1] ?? 0;
    // Of each kind the value has the number of the kind and 1.
    const [, number, content] = first(one, kind + 1) ?? [0, 0, NOTHING];
    const value = kind < 3 ? number : kind === 3 ? text(content) : kind === 4 ? tensor(content)[1] : numbers(one, 8);
    return [name(one, 1), value];
  };
  return {
    op: name(of, 4),
    domain: name(of, 7),
    inputs: texts(of, 1),
    outputs: texts(of, 2),
    attributes: Object.fromEntries(all(of, 5).map(attribute)),
  };
}

/** The graph of a model. */
export function readGraph(content: Bytes): Graph {
  try {
    const of = fields(first(fields(content), 7)![2]);
    const names = (field: number): string[] => all(of, field).map(([, , part]) => name(fields(part), 1));
    return {
      nodes: all(of, 1).map(([, , part]) => node(part)),
      constants: Object.fromEntries(all(of, 5).map(([, , part]) => tensor(part))),
      inputs: names(11),
      outputs: names(12),
    };
  } catch (cause) {
    throw invalidBundle(`device.onnx cannot be read: ${(cause as Error).message}`);
  }
}
