/** What each operator of ONNX computes, in plain loops. A kernel writes into arrays that its node keeps from run to run. */
import { product } from "./bytes";
import { type Attribute, type Data, int32, type Tensor } from "./onnx";

export type Kind = new (size: number) => Data;
/** An array of a size for the output of this number: the one of the run before, where the size is the same. */
export type Room = (kind: Kind, size: number, output?: number) => Data;
type Attributes = Record<string, Attribute>;
/** Those that an operator has: none, one or more. */
type Operands = [Tensor, Tensor, Tensor, ...Tensor[]];
export type Kernel = (x: Operands, a: Attributes, room: Room) => Tensor | Tensor[];

/** Rows of a table that were gathered, but not copied out of it. */
export interface Gathered extends Tensor {
  rows: Int32Array;
}

const kindOf = (data: Data): Kind => data.constructor as Kind;

/** What is asked of an operator is none of what it does here. */
export const refuse = (): never => {
  throw new RangeError();
};
export const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
/** An attribute, and the axis that one names. */
const number = (attribute: Attribute | undefined, otherwise: number): number => (attribute as number | undefined) ?? otherwise;
export const axisIn = (a: Attributes, x: Tensor, otherwise: number): number => axisOf(number(a.axis, otherwise), x.dims.length);
/** Values before an axis, along it, and behind each of its places. */
const around = ({ dims }: Tensor, axis: number): [outer: number, count: number, inner: number] => [
  product(dims.slice(0, axis)),
  dims[axis]!,
  product(dims.slice(axis + 1)),
];

/** Steps between neighbours of each dimension as it is read for an output of `rank` dimensions; 0 where it repeats. */
function strides(dims: readonly number[], rank = dims.length): number[] {
  const found = new Array<number>(rank).fill(0);
  for (let at = dims.length - 1, step = 1; at >= 0; step *= dims[at--]!)
    if (dims[at] !== 1) found[at + rank - dims.length] = step;
  return found;
}

const broadcast = (a: readonly number[], b: readonly number[]): number[] =>
  a.length < b.length
    ? broadcast(b, a)
    : a.map((one, at) => {
        const other = b[at - a.length + b.length] ?? 1;
        return one === other || other === 1 ? one : one === 1 ? other : refuse();
      });

/** Where the values at each place of `dims` begin, by these steps. */
function offsets(dims: readonly number[], steps: readonly number[]): Int32Array {
  const found = new Int32Array(product(dims));
  let size = 1;
  dims.forEach((count, at) => {
    // From the back, so that what is read is not yet written over.
    for (let place = size - 1; place >= 0; place--)
      for (let one = count - 1; one >= 0; one--) found[place * count + one] = found[place]! + one * steps[at]!;
    size *= count;
  });
  return found;
}

/** Last dimensions that every operand walks through at one pace, as one: its length, the paces, and where each run begins. */
function runs(dims: readonly number[], steps: readonly number[][]): [run: number, paces: number[], from: Int32Array[]] {
  let [lead, run, paces] = [dims.length, 1, steps.map(() => 0)];
  for (; lead; lead--) {
    const count = dims[lead - 1]!;
    if (count === 1) continue;
    const next = steps.map((one) => one[lead - 1]!);
    if (run > 1 && next.some((step, at) => step !== paces[at]! * run)) break;
    if (run === 1) paces = next;
    run *= count;
  }
  const outer = dims.slice(0, lead);
  return [run, paces, steps.map((one) => offsets(outer, one))];
}

/** What stands at these steps from a start: the data itself, where it stands in this order already. */
function strided({ data }: Tensor, dims: number[], steps: number[], start: number, room: Room, output = 0): Tensor {
  const [run, [pace], [from]] = runs(dims, [steps]) as [number, [number], [Int32Array]];
  if (from.length === 1 && pace === 1) return { dims, data: data.subarray(start, start + run) };
  const out = room(kindOf(data), from.length * run, output);
  for (let at = 0, to = 0; at < from.length; at++)
    for (let one = 0, place = start + from[at]!; one < run; one++, place += pace) out[to++] = data[place]!;
  return { dims, data: out };
}
const expanded = (x: Tensor, dims: number[], room: Room, output?: number): Tensor =>
  strided(x, dims, strides(x.dims, dims.length), 0, room, output);

/** A piece of an axis. */
const piece = (x: Tensor, axis: number, from: number, length: number, room: Room, output: number): Tensor => {
  const steps = strides(x.dims);
  return strided(x, x.dims.with(axis, length), steps, from * steps[axis]!, room, output);
};

type Loop = (a: Data, b: Data, out: Data, ao: number, bo: number, oo: number, run: number, as: number, bs: number) => void;
// Of floats alone: a loop that meets arrays of one kind runs many times faster than one that meets several.
const addFloats: Loop = (a, b, out, ao, bo, oo, run, as, bs) => {
  for (let i = 0; i < run; i++) out[oo + i] = a[ao + i * as]! + b[bo + i * bs]!;
};
const multiplyFloats: Loop = (a, b, out, ao, bo, oo, run, as, bs) => {
  for (let i = 0; i < run; i++) out[oo + i] = a[ao + i * as]! * b[bo + i * bs]!;
};

/** An operator of two tensors. */
export const binary =
  (f: (a: number, b: number) => number, kind?: Kind, floats?: Loop): Kernel =>
  ([a, b], _, room) => {
    const each: Loop = (a, b, out, ao, bo, oo, run, as, bs) => {
      for (let i = 0; i < run; i++) out[oo + i] = f(a[ao + i * as]!, b[bo + i * bs]!);
    };
    const loop = floats && a.data instanceof Float32Array ? floats : each;
    const dims = broadcast(a.dims, b.dims);
    const [run, [as, bs], [ao, bo]] = runs(dims, [a, b].map((one) => strides(one.dims, dims.length)));
    const out = room(kind ?? kindOf(a.data), ao!.length * run);
    for (let at = 0; at < ao!.length; at++) loop(a.data, b.data, out, ao![at]!, bo![at]!, at * run, run, as!, bs!);
    return { dims, data: out };
  };

export const unary =
  (f: (x: number) => number, kind?: Kind): Kernel =>
  ([x], _, room) => {
    const { dims, data } = x;
    const out = room(kind ?? kindOf(data), data.length);
    for (let at = 0; at < data.length; at++) out[at] = f(data[at]!);
    return { dims, data: out };
  };

/** By the error function, as accurate as float32 is (Abramowitz and Stegun, 7.1.26). */
export function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - tail * Math.exp(-x * x));
}

/** Where rows begin: those of these numbers, or so many one after the other. */
export function begins(rows: Int32Array | undefined, first: number, count: number, width: number, base = 0): Int32Array {
  const found = new Int32Array(count);
  for (let at = 0; at < count; at++) found[at] = base + (rows ? rows[first + at]! : first + at) * width;
  return found;
}

/** Products of a vector with lines of a matrix, whose values lie `pace` apart; four at a time. */
function line(vector: Float32Array, vo: number, step: number, b: Float32Array, from: Int32Array, pace: number, out: Float32Array, oo: number, k: number): void {
  let at = 0;
  for (; at + 3 < from.length; at += 4) {
    let c = from[at]!;
    let d = from[at + 1]!;
    let e = from[at + 2]!;
    let f = from[at + 3]!;
    let p = 0;
    let q = 0;
    let r = 0;
    let s = 0;
    for (let i = 0, place = vo; i < k; i++, place += step) {
      const x = vector[place]!;
      p += x * b[c]!;
      q += x * b[d]!;
      r += x * b[e]!;
      s += x * b[f]!;
      c += pace;
      d += pace;
      e += pace;
      f += pace;
    }
    const to = oo + at;
    out[to] = p;
    out[to + 1] = q;
    out[to + 2] = r;
    out[to + 3] = s;
  }
  for (; at < from.length; at++) {
    let sum = 0;
    for (let i = 0, place = vo, c = from[at]!; i < k; i++, place += step, c += pace) sum += vector[place]! * b[c]!;
    out[oo + at] = sum;
  }
}

/** Rows [m, k], of a table those of these numbers, times a matrix [k, n], whose values lie `down` and `across` apart. */
export type Multiply = (
  a: Float32Array, ao: number, rows: Int32Array | undefined,
  b: Float32Array, bo: number, down: number, across: number,
  out: Float32Array, oo: number, m: number, k: number, n: number,
) => void;

export const multiply: Multiply = (a, ao, rows, b, bo, down, across, out, oo, m, k, n) => {
  const from = begins(rows, ao, m, k);
  if (n === 1) return line(b, bo, down, a, from, 1, out, oo, k);
  const columns = begins(undefined, 0, n, across, bo);
  for (let row = 0; row < m; row++) line(a, from[row]!, 1, b, columns, down, out, oo + row * n, k);
};

/** Products of matrices, one for each of several. */
export const matmul = (multiply: Multiply): Kernel => ([a, b], _, room) => {
  const [k, m] = [a.dims.at(-1)!, a.dims.at(-2) ?? refuse()];
  const n = b.dims.at(-1)!;
  if (b.dims.at(-2) !== k) refuse();
  const [one, other] = [a.dims.slice(0, -2), b.dims.slice(0, -2)];
  const lead = broadcast(one, other);
  const [ia, ib] = [one, other].map((dims) => offsets(lead, strides(dims, lead.length))) as [Int32Array, Int32Array];
  const out = room(Float32Array, ia.length * m * n) as Float32Array;
  for (let at = 0; at < ia.length; at++)
    multiply(a.data as Float32Array, ia[at]! * m, (a as Gathered).rows, b.data as Float32Array, ib[at]! * k * n, n, 1, out, at * m * n, m, k, n);
  return { dims: [...lead, m, n], data: out };
};

/** A linear layer: rows times a matrix, mostly a turned one, and a bias for each column. */
const gemm: Kernel = ([a, b, c], { transA, transB, alpha, beta }, room) => {
  const [m, k] = a.dims as [number, number];
  const n = b.dims[transB ? 0 : 1]!;
  if (transA || number(alpha, 1) !== 1 || number(beta, 1) !== 1 || (c && c.data.length !== n)) refuse();
  const out = room(Float32Array, m * n) as Float32Array;
  multiply(a.data as Float32Array, 0, undefined, b.data as Float32Array, 0, transB ? 1 : n, transB ? k : 1, out, 0, m, k, n);
  if (c) for (let at = 0; at < out.length; at++) out[at]! += c.data[at % n]!;
  return { dims: [m, n], data: out };
};

/** The values along some axes, or along all, taken together. */
export const reduce =
  (f: (sum: number, value: number) => number, start: number): Kernel =>
  ([{ dims, data }, axes], a, room) => {
    const wanted = axes ? [...axes.data] : ((a.axes as number[] | undefined) ?? [...dims.keys()]);
    const gone = wanted.map((axis) => axisOf(axis, dims.length));
    const kept = dims.map((count, at) => (gone.includes(at) ? 1 : count));
    const out = room(kindOf(data), product(kept)).fill(start);
    const to = offsets(dims, strides(kept));
    for (let at = 0; at < data.length; at++) out[to[at]!] = f(out[to[at]!]!, data[at]!);
    return { dims: number(a.keepdims, 1) ? kept : kept.filter((_, at) => !gone.includes(at)), data: out };
  };

/** What makes of each row along the last axis another. */
const byRow =
  (work: (data: Data, from: number, width: number, out: Data, x: Operands, a: Attributes) => void): Kernel =>
  (x, a, room) => {
    const { dims, data } = x[0];
    const width = dims.at(-1)!;
    if (axisIn(a, x[0], -1) !== dims.length - 1) refuse();
    const out = room(Float32Array, data.length);
    for (let from = 0; from < data.length; from += width) work(data, from, width, out, x, a);
    return { dims, data: out };
  };

const softmax = byRow((data, from, width, out) => {
  let most = -Infinity;
  let sum = 0;
  for (let at = from; at < from + width; at++) most = Math.max(most, data[at]!);
  for (let at = from; at < from + width; at++) sum += out[at] = Math.exp(data[at]! - most);
  for (let at = from; at < from + width; at++) out[at]! /= sum;
});

const layerNorm = byRow((data, from, width, out, [, scale, shift], { epsilon }) => {
  let mean = 0;
  let square = 0;
  for (let at = from; at < from + width; at++) mean += data[at]! / width;
  for (let at = from; at < from + width; at++) square += (data[at]! - mean) ** 2 / width;
  const factor = 1 / Math.sqrt(square + number(epsilon, 1e-5));
  for (let at = 0; at < width; at++) out[from + at] = (data[from + at]! - mean) * factor * scale.data[at]! + (shift?.data[at] ?? 0);
});

const inTable = (place: number, count: number): number => {
  const found = axisOf(place, count);
  return found >= 0 && found < count ? found : refuse();
};

/** Rows along an axis, by index. */
export const gather: Kernel = ([table, index], a, room) => {
  const axis = axisIn(a, table, 0);
  const { dims, data } = table;
  const [outer, count, inner] = around(table, axis);
  const out = room(kindOf(data), outer * index.data.length * inner);
  let to = 0;
  for (let lead = 0; lead < outer; lead++)
    for (const place of index.data) {
      const from = (lead * count + inTable(place, count)) * inner;
      for (let one = 0; one < inner; one++) out[to++] = data[from + one]!;
    }
  return { dims: dims.toSpliced(axis, 1, ...index.dims), data: out };
};

/** The same without copying; for a table of two dimensions and products alone. */
export const gatherRows = ([table, index]: Operands): Gathered => {
  const [count, width] = table.dims as [number, number];
  const rows = Int32Array.from(index.data, (place) => inTable(place, count));
  return { dims: [...index.dims, width], data: table.data, rows };
};

const gatherElements: Kernel = ([x, index], a, room) => {
  const axis = axisIn(a, x, 0);
  const steps = strides(x.dims);
  const from = offsets(index.dims, steps.with(axis, 0));
  const out = room(kindOf(x.data), from.length);
  for (let at = 0; at < from.length; at++) out[at] = x.data[from[at]! + inTable(index.data[at]!, x.dims[axis]!) * steps[axis]!]!;
  return { dims: index.dims, data: out };
};

const slice: Kernel = ([x, starts, ends, axes, steps], _, room) => {
  let found = x;
  starts.data.forEach((start, at) => {
    const axis = axisOf(axes ? axes.data[at]! : at, found.dims.length);
    const count = found.dims[axis]!;
    const [from, to] = [start, ends.data[at]!].map((place) => Math.max(0, Math.min(count, axisOf(place, count)))) as [number, number];
    if (steps && steps.data[at] !== 1) refuse();
    found = piece(found, axis, from, Math.max(0, to - from), room, at);
  });
  return found;
};

/** Pieces of one dimension, of the sizes that the second input says, or of equal ones. */
const split: Kernel = ([x, sizes], a, room) => {
  const axis = axisIn(a, x, 0);
  const length = x.dims[axis]!;
  const count = number(a.num_outputs, 1);
  const equal = Math.ceil(length / count);
  const wanted = sizes ? [...sizes.data] : Array.from({ length: count }, (_, at) => Math.min(equal, length - at * equal));
  let end = 0;
  return wanted.map((size, output) => piece(x, axis, (end += size) - size, size, room, output));
};

const concat: Kernel = (parts, a, room) => {
  const axis = axisIn(a, parts[0]!, 0);
  const sizes = parts.map((part) => product(part.dims.slice(axis)));
  const outer = product(parts[0]!.dims.slice(0, axis));
  const total = sizes.reduce((one, other) => one + other);
  const out = room(kindOf(parts[0]!.data), outer * total);
  let begin = 0;
  parts.forEach(({ data }, which) => {
    const size = sizes[which]!;
    for (let lead = 0; lead < outer; lead++)
      for (let at = 0, to = begin + lead * total; at < size; at++) out[to + at] = data[lead * size + at]!;
    begin += size;
  });
  return { dims: parts[0]!.dims.with(axis, parts.reduce((sum, part) => sum + part.dims[axis]!, 0)), data: out };
};

const transpose: Kernel = ([x], a, room) => {
  const order = (a.perm as number[] | undefined) ?? [...x.dims.keys()].reverse();
  const steps = strides(x.dims);
  return strided(x, order.map((axis) => x.dims[axis]!), order.map((axis) => steps[axis]!), 0, room);
};

const reshape: Kernel = ([{ dims, data }, shape], a) => {
  const found = Array.from(shape.data, (count, at) => (count || a.allowzero ? count : dims[at]!));
  const open = found.indexOf(-1);
  if (open >= 0) found[open] = data.length / -product(found);
  return product(found) === data.length ? { dims: found, data } : refuse();
};

const squeeze: Kernel = ([{ dims, data }, axes]) => {
  const gone = axes && Array.from(axes.data, (axis) => axisOf(axis, dims.length));
  return { dims: dims.filter((count, at) => (gone ? !gone.includes(at) : count !== 1)), data };
};

const unsqueeze: Kernel = ([{ dims, data }, axes]) => {
  const found = [...dims];
  const added = Array.from(axes.data, (axis) => axisOf(axis, dims.length + axes.data.length));
  for (const axis of added.sort((one, other) => one - other)) found.splice(axis, 0, 1);
  return { dims: found, data };
};

const CASTS: { [type: number]: [(x: number) => number, Kind] } = {
  1: [(x) => x, Float32Array],
  3: [(x) => x, Int8Array],
  6: [(x) => int32(Math.trunc(x)), Int32Array],
  9: [(x) => +!!x, Uint8Array],
};
const cast: Kernel = (x, a, room) => unary(...(CASTS[a.to === 7 ? 6 : (a.to as number)] ?? refuse()))(x, a, room);

const where: Kernel = ([condition, a, b], _, room) => {
  const dims = broadcast(condition.dims, broadcast(a.dims, b.dims));
  const [c, x, y] = [condition, a, b].map((one, at) => expanded(one, dims, room, at + 1).data) as [Data, Data, Data];
  const out = room(kindOf(x), c.length);
  for (let at = 0; at < out.length; at++) out[at] = (c[at] ? x : y)[at]!;
  return { dims, data: out };
};

/** What the backbone SASRec is made of; the others are in `operators`. */
export const KERNELS: Record<string, Kernel> = {
  Add: binary((a, b) => a + b, undefined, addFloats),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b, undefined, multiplyFloats),
  // An array of whole numbers cuts what is behind the point.
  Div: binary((a, b) => a / b),
  Equal: binary((a, b) => +(a === b), Uint8Array),
  LessOrEqual: binary((a, b) => +(a <= b), Uint8Array),
  Not: unary((x) => 1 - x),
  Gelu: (x, a, room) => {
    const rise = a.approximate === "tanh" ? (one: number) => Math.tanh(Math.sqrt(2 / Math.PI) * (one + 0.044715 * one ** 3)) : (one: number) => erf(one * Math.SQRT1_2);
    return unary((one) => 0.5 * one * (1 + rise(one)))(x, a, room);
  },
  Clip: ([x, least, most], a, room) =>
    unary((one) => Math.min(Math.max(one, least?.data[0] ?? -Infinity), most?.data[0] ?? Infinity))([x, x, x], a, room),
  ReduceSum: reduce((sum, value) => sum + value, 0),
  MatMul: matmul(multiply),
  Gemm: gemm,
  Softmax: softmax,
  LayerNormalization: layerNorm,
  Gather: gather,
  GatherElements: gatherElements,
  Slice: slice,
  Split: split,
  Concat: concat,
  Transpose: transpose,
  Reshape: reshape,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Cast: cast,
  Where: where,
  Expand: ([x, shape], _, room) => expanded(x, broadcast(x.dims, [...shape.data]), room),
  Shape: ([{ dims }], { start, end }) => {
    const found = Int32Array.from(dims.slice(number(start, 0), end as number | undefined));
    return { dims: [found.length], data: found };
  },
  Range: ([from, to, step], _, room) => {
    const [begin, end, by] = [from, to, step!].map(({ data }) => data[0]!) as [number, number, number];
    const data = room(kindOf(from.data), Math.max(0, Math.ceil((end - begin) / by)));
    for (let at = 0; at < data.length; at++) data[at] = begin + at * by;
    return { dims: [data.length], data };
  },
};
