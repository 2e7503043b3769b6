/** The part of ONNX that a graph of a bundle is made of, read from its protocol buffer. */
import { type Bytes, product, reader, text, view } from "./bytes";
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

/** A value of a field: the number that it is, or its bytes. */
type Field = [number: number, content: Bytes];
/** The values of a message, by the number of their field. */
type Message = (field: number) => Field[];

const NOTHING: Bytes = new Uint8Array(0);
const VARINT_BYTES = 10;
const bad = (): never => {
  throw new RangeError();
};

function fields(content: Bytes): Message {
  const found: Record<number, Field[]> = {};
  const { left, take, varint } = reader(content, bad);
  while (left()) {
    const key = varint(VARINT_BYTES);
    const wire = key & 7;
    const number = wire ? 0 : varint(VARINT_BYTES);
    const part = wire ? take(wire === 2 ? varint(VARINT_BYTES) : ({ 1: 8, 5: 4 }[wire] ?? bad())) : NOTHING;
    (found[key >> 3] ??= []).push([wire === 5 ? view(part).getFloat32(0, true) : number, part]);
  }
  return (field) => found[field] ?? [];
}

const contents = (of: Message, field: number): Bytes[] => of(field).map(([, content]) => content);
const texts = (of: Message, field: number): string[] => contents(of, field).map(text);
const name = (of: Message, field: number): string => texts(of, field)[0] ?? "";
const number = (of: Message, field: number): number => of(field)[0]?.[0] ?? 0;
/** Numbers, one by one or packed. */
const numbers = (of: Message, field: number): number[] =>
  of(field).flatMap(([one, content]) => {
    const found: number[] = [];
    for (const { left, varint } = reader(content, bad); left(); ) found.push(varint(VARINT_BYTES));
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
  // Data that lie elsewhere are none.
  const data = new (TYPES[number(of, 14) ? 0 : number(of, 2)] ?? bad())((contents(of, 9)[0] ?? NOTHING).slice().buffer);
  if (data.length !== product(dims)) bad();
  return [name(of, 8), { dims, data: data instanceof BigInt64Array ? Int32Array.from<bigint>(data, (one) => int32(Number(one))) : data }];
}

function node(content: Bytes): Node {
  const of = fields(content);
  const attribute = (content: Bytes): [string, Attribute] => {
    const one = fields(content);
    const kind = number(one, 20);
    // Of each kind the value has the number of the kind and 1.
    const [value, part] = one(kind + 1)[0] ?? [0, NOTHING];
    return [name(one, 1), kind < 3 ? value : kind === 3 ? text(part) : kind === 4 ? tensor(part)[1] : numbers(one, 8)];
  };
  return {
    op: name(of, 4),
    domain: name(of, 7),
    inputs: texts(of, 1),
    outputs: texts(of, 2),
    attributes: Object.fromEntries(contents(of, 5).map(attribute)),
  };
}

/** The graph of a model. */
export function readGraph(content: Bytes): Graph {
  try {
    const of = fields(contents(fields(content), 7)[0]!);
    const names = (field: number): string[] => contents(of, field).map((part) => name(fields(part), 1));
    return {
      nodes: contents(of, 1).map(node),
      constants: Object.fromEntries(contents(of, 5).map(tensor)),
      inputs: names(11),
      outputs: names(12),
    };
  } catch {
    throw invalidBundle("device.onnx cannot be read: it is cut, or holds what is not known");
  }
}
