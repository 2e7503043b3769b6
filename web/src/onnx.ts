/** The part of ONNX that a graph of a bundle is made of, read from its protocol buffer. */
import { type Bytes, text, view } from "./bytes";
import { invalidBundle } from "./errors";

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

type Field = [field: number, number: number, content: Bytes];
export const [FLOAT, UINT8, INT8, INT32, INT64, BOOL] = [1, 2, 3, 6, 7, 9];

/** The fields of a message: those that hold numbers, and those that hold bytes. */
function fields(content: Bytes): Field[] {
  const found: Field[] = [];
  const data = view(content);
  const none = content.subarray(0, 0);
  let at = 0;
  const varint = (): number => {
    let [low, high, shift] = [0, 0, 0];
    for (let byte = 128; byte & 128; shift += 7) {
      byte = data.getUint8(at++);
      if (shift < 28) low |= (byte & 127) << shift;
      else high += (byte & 127) * 2 ** (shift - 28);
      if (shift > 63) throw new RangeError("a number is too long");
    }
    // Of two's complement in 64 bits.
    return high >= 2 ** 35 ? -(2 ** 36 - high) * 2 ** 28 + low : high * 2 ** 28 + low;
  };
  while (at < content.length) {
    const key = varint();
    const [field, wire] = [Math.floor(key / 8), key % 8];
    if (wire === 0) found.push([field, varint(), none]);
    else if (wire === 2 || wire === 5 || wire === 1) {
      const length = wire === 2 ? varint() : wire === 5 ? 4 : 8;
      if (length < 0 || at + length > content.length) throw new RangeError("it is cut");
      const part = content.subarray(at, at + length);
      found.push([field, wire === 5 ? view(part).getFloat32(0, true) : 0, part]);
      at += length;
    } else throw new RangeError("a field is of no known kind");
  }
  return found;
}

const all = (of: Field[], field: number): Field[] => of.filter(([one]) => one === field);
const texts = (of: Field[], field: number): string[] => all(of, field).map(([, , content]) => text(content));
const first = (of: Field[], field: number): Field | undefined => all(of, field)[0];
/** Numbers, one by one or packed. */
const numbers = (of: Field[], field: number): number[] =>
  all(of, field).flatMap(([, one, content]) => {
    if (!content.length) return [one];
    const packed = new Uint8Array(content.length * 2);
    let length = 0;
    for (const byte of content) {
      // Each packed number as a field of its own, for the same reader.
      if (!length || !(packed[length - 1]! & 128)) packed[length++] = 8;
      packed[length++] = byte;
    }
    return fields(packed.subarray(0, length)).map(([, number]) => number);
  });

export const int32 = (value: number): number => Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, value));

function tensor(content: Bytes): [string, Tensor] {
  const of = fields(content);
  const dims = numbers(of, 1);
  const type = first(of, 2)?.[1];
  const count = dims.reduce((one, other) => one * other, 1);
  const name = texts(of, 8)[0] ?? "";
  const bytes = first(of, 9)?.[2] ?? new Uint8Array(0);
  const size = { [FLOAT!]: 4, [UINT8!]: 1, [INT8!]: 1, [INT32!]: 4, [INT64!]: 8, [BOOL!]: 1 }[type ?? 0];
  if (!size || first(of, 14)?.[1] || !(count >= 0)) throw new RangeError(`the tensor ${name} is of no known kind`);
  if (bytes.length !== count * size) throw new RangeError(`the tensor ${name} has not its size`);
  // Typed arrays have the byte order of the machine: little endian, wherever a browser runs.
  const { buffer } = bytes.slice();
  if (type === FLOAT) return [name, { dims, data: new Float32Array(buffer) }];
  if (type === INT64)
    return [name, { dims, data: Int32Array.from(Array.from(new BigInt64Array(buffer), (value) => int32(Number(value)))) }];
  return [name, { dims, data: new (type === INT32 ? Int32Array : type === INT8 ? Int8Array : Uint8Array)(buffer) }];
}

function node(content: Bytes): Node {
  const of = fields(content);
  const attributes: Record<string, Attribute> = {};
  for (const [, , part] of all(of, 5)) {
    const one = fields(part);
    const kind = first(one, 20)?.[1];
    const name = texts(one, 1)[0] ?? "";
    if (kind === 1) attributes[name] = first(one, 2)?.[1] ?? 0;
    else if (kind === 2) attributes[name] = first(one, 3)?.[1] ?? 0;
    else if (kind === 3) attributes[name] = texts(one, 4)[0] ?? "";
    else if (kind === 4) attributes[name] = tensor(first(one, 5)![2])[1];
    else if (kind === 7) attributes[name] = numbers(one, 8);
    else throw new RangeError(`the attribute ${name} is of no known kind`);
  }
  return {
    op: texts(of, 4)[0] ?? "",
    domain: texts(of, 7)[0] ?? "",
    inputs: texts(of, 1),
    outputs: texts(of, 2),
    attributes,
  };
}

/** The graph of a model. */
export function readGraph(content: Bytes): Graph {
  try {
    const of = fields(first(fields(content), 7)![2]);
    const names = (field: number): string[] => all(of, field).map(([, , part]) => texts(fields(part), 1)[0] ?? "");
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
