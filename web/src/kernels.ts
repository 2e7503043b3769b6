/** What each operator of ONNX computes, in plain loops. A kernel writes into arrays that its node keeps from run to run. */
import { type Attribute, BOOL, type Data, FLOAT, INT32, INT64, INT8, int32, type Tensor } from "./onnx";

type Kind = "float" | "whole" | "small" | "truth";
/** An array of a size for the output of this number: the one of the run before, where the size is the same. */
export type Room = (kind: Kind, size: number, output?: number) => Data;
type In = (Tensor | undefined)[];
export type Kernel = (x: Tensor[], a: Record<string, Attribute>, room: Room, all: In) => Tensor | Tensor[];

/** Rows of a table that were gathered, but not copied out of it. */
export interface Gathered extends Tensor {
  rows: Int32Array;
}

export const ARRAYS = { float: Float32Array, whole: Int32Array, small: Int8Array, truth: Uint8Array };
const kindOf = (data: Data): Kind =>
  data instanceof Float32Array ? "float" : data instanceof Int32Array ? "whole" : data instanceof Int8Array ? "small" : "truth";

const refuse = (why: string): never => {
  throw new RangeError(why);
};
const product = (dims: readonly number[]): number => {
  let size = 1;
  for (const one of dims) size *= one;
  return size;
};
const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
const whole = (attribute: Attribute | undefined, otherwise: number): number => (attribute as number | undefined) ?? otherwise;

/** Steps between neighbours of each dimension as it is read for an output of `rank` dimensions; 0 where it repeats. */
function strides(dims: readonly number[], rank: number): number[] {
  const found = new Array<number>(rank).fill(0);
  for (let at = dims.length - 1, step = 1; at >= 0; step *= dims[at--]!)
    if (dims[at] !== 1) found[at + rank - dims.length] = step;
  return found;
}

function broadcast(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, at) => {
    const [one, other] = [a[at - rank + a.length] ?? 1, b[at - rank + b.length] ?? 1];
    return one === other || other === 1 ? one : one === 1 ? other : refuse("shapes do not fit");
  });
}

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

type Pair = (a: number, b: number) => number;
type Loop = (a: Data, b: Data, out: Data, ao: number, bo: number, oo: number, run: number, as: number, bs: number) => void;
// Of floats alone: a loop that meets arrays of one kind runs many times faster than one that meets several.
const addFloats: Loop = (a, b, out, ao, bo, oo, run, as, bs) => {
  for (let i = 0; i < run; i++) out[oo + i] = a[ao + i * as]! + b[bo + i * bs]!;
};
const multiplyFloats: Loop = (a, b, out, ao, bo, oo, run, as, bs) => {
  for (let i = 0; i < run; i++) out[oo + i] = a[ao + i * as]! * b[bo + i * bs]!;
};
const each =
  (f: Pair): Loop =>
  (a, b, out, ao, bo, oo, run, as, bs) => {
    for (let i = 0; i < run; i++) out[oo + i] = f(a[ao + i * as]!, b[bo + i * bs]!);
  };

/** An operator of two tensors: runs of places where each of them goes on or stays. */
const binary =
  (one: Pair, kind?: Kind, floats?: Loop): Kernel =>
  ([a, b], _, room) => {
    const loop = floats && a!.data instanceof Float32Array ? floats : each(one);
    const dims = broadcast(a!.dims, b!.dims);
    const [sa, sb] = [strides(a!.dims, dims.length), strides(b!.dims, dims.length)];
    let [lead, run, as, bs] = [dims.length, 1, -1, -1];
    while (lead) {
      const count = dims[lead - 1]!;
      if (count !== 1) {
        const [na, nb] = [sa[lead - 1] ? 1 : 0, sb[lead - 1] ? 1 : 0];
        if (as >= 0 && (na !== as || nb !== bs)) break;
        [as, bs] = [na, nb];
        run *= count;
      }
      lead--;
    }
    const out = room(kind ?? kindOf(a!.data), product(dims));
    if (!lead) loop(a!.data, b!.data, out, 0, 0, 0, run, Math.max(as, 0), Math.max(bs, 0));
    else {
      const outer = dims.slice(0, lead);
      const [ia, ib] = [offsets(outer, sa), offsets(outer, sb)];
      for (let at = 0; at < ia.length; at++) loop(a!.data, b!.data, out, ia[at]!, ib[at]!, at * run, run, as, bs);
    }
    return { dims, data: out };
  };

const unary =
  (f: (x: number) => number, kind?: Kind): Kernel =>
  ([x], _, room) => {
    const { dims, data } = x!;
    const out = room(kind ?? kindOf(data), data.length);
    for (let at = 0; at < data.length; at++) out[at] = f(data[at]!);
    return { dims, data: out };
  };

/** As large as `dims` says, by repeating. */
function expanded(x: Tensor, dims: number[], out: Data): Tensor {
  const from = offsets(dims, strides(x.dims, dims.length));
  for (let at = 0; at < from.length; at++) out[at] = x.data[from[at]!]!;
  return { dims, data: out };
}

/** By the error function, as accurate as float32 is (Abramowitz and Stegun, 7.1.26). */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - tail * Math.exp(-x * x));
}
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

function dot(a: Float32Array, ao: number, b: Float32Array, bo: number, count: number): number {
  let one = 0;
  let two = 0;
  let three = 0;
  let four = 0;
  let at = 0;
  for (; at + 3 < count; at += 4) {
    one += a[ao + at]! * b[bo + at]!;
    two += a[ao + at + 1]! * b[bo + at + 1]!;
    three += a[ao + at + 2]! * b[bo + at + 2]!;
    four += a[ao + at + 3]! * b[bo + at + 3]!;
  }
  for (; at < count; at++) one += a[ao + at]! * b[bo + at]!;
  return one + two + three + four;
}

/** [m, k] times [k, n], rows of the result as sums of rows, four at a time. */
function matrices(a: Float32Array, ao: number, b: Float32Array, bo: number, out: Float32Array, oo: number, m: number, k: number, n: number): void {
  for (let row = 0; row < m; row++, oo += n, ao += k) {
    if (n === 1) {
      out[oo] = dot(a, ao, b, bo, k);
      continue;
    }
    out.fill(0, oo, oo + n);
    let at = 0;
    for (; at + 3 < k; at += 4) {
      const p = a[ao + at]!;
      const q = a[ao + at + 1]!;
      const r = a[ao + at + 2]!;
      const s = a[ao + at + 3]!;
      const from = bo + at * n;
      for (let i = 0; i < n; i++)
        out[oo + i]! += p * b[from + i]! + q * b[from + n + i]! + r * b[from + 2 * n + i]! + s * b[from + 3 * n + i]!;
    }
    for (; at < k; at++) for (let i = 0; i < n; i++) out[oo + i]! += a[ao + at]! * b[bo + at * n + i]!;
  }
}

const matmul: Kernel = ([a, b], _, room) => {
  const [k, m] = [a!.dims.at(-1)!, a!.dims.at(-2) ?? refuse("a vector is multiplied")];
  const n = b!.dims.at(-1)!;
  if (b!.dims.at(-2) !== k) refuse("shapes do not fit");
  const lead = broadcast(a!.dims.slice(0, -2), b!.dims.slice(0, -2));
  const ia = offsets(lead, strides(a!.dims.slice(0, -2), lead.length));
  const ib = offsets(lead, strides(b!.dims.slice(0, -2), lead.length));
  const out = room("float", ia.length * m * n) as Float32Array;
  const rows = (a as Gathered).rows;
  const [ad, bd] = [a!.data as Float32Array, b!.data as Float32Array];
  for (let at = 0; at < ia.length; at++) {
    const ao = ia[at]! * m;
    const bo = ib[at]! * k * n;
    const oo = at * m * n;
    if (!rows) matrices(ad, ao * k, bd, bo, out, oo, m, k, n);
    else if (n === 1) for (let row = 0; row < m; row++) out[oo + row] = dot(ad, rows[ao + row]! * k, bd, bo, k);
    else for (let row = 0; row < m; row++) matrices(ad, rows[ao + row]! * k, bd, bo, out, oo + row * n, 1, k, n);
  }
  return { dims: [...lead, m, n], data: out };
};

const gemm: Kernel = ([a, b, c], attributes, room) => {
  if (attributes.transA) refuse("a transposed first matrix");
  const turned = attributes.transB;
  const [m, k] = a!.dims as [number, number];
  const n = b!.dims[turned ? 0 : 1]!;
  const out = room("float", m * n) as Float32Array;
  const [alpha, beta] = [whole(attributes.alpha, 1), whole(attributes.beta, 1)];
  const [ad, bd] = [a!.data as Float32Array, b!.data as Float32Array];
  if (turned) for (let at = 0; at < m * n; at++) out[at] = dot(ad, Math.floor(at / n) * k, bd, (at % n) * k, k);
  else matrices(ad, 0, bd, 0, out, 0, m, k, n);
  const size = c?.data.length ?? 0;
  if (size > 1 && size !== n && size !== m * n) refuse("a bias of another shape");
  for (let at = 0; at < m * n; at++) out[at] = alpha * out[at]! + (size ? beta * c!.data[at % size]! : 0);
  return { dims: [m, n], data: out };
};

/** One dimension taken together. */
const reduce =
  (f: (sum: number, value: number) => number, start: number, mean = false): Kernel =>
  ([x, axes], a, room) => {
    let { dims, data } = x!;
    const wanted = axes ? [...axes.data] : ((a.axes as number[] | undefined) ?? dims.map((_, at) => at));
    const kept = whole(a.keepdims, 1);
    const places = wanted.map((axis) => axisOf(axis, dims.length)).sort((one, other) => other - one);
    places.forEach((axis, round) => {
      const [outer, count, inner] = [product(dims.slice(0, axis)), dims[axis]!, product(dims.slice(axis + 1))];
      const out = room(kindOf(data), outer * inner, round);
      for (let at = 0; at < outer * inner; at++) {
        let sum = start;
        const from = Math.floor(at / inner) * count * inner + (at % inner);
        for (let one = 0; one < count; one++) sum = f(sum, data[from + one * inner]!);
        out[at] = mean ? sum / count : sum;
      }
      dims = kept ? dims.with(axis, 1) : dims.toSpliced(axis, 1);
      data = out;
    });
    return { dims, data };
  };

const onLast = (a: Record<string, Attribute>, x: Tensor): number => {
  if (axisOf(whole(a.axis, -1), x.dims.length) !== x.dims.length - 1) refuse("an axis that is not the last");
  return x.dims.at(-1)!;
};

const softmax: Kernel = ([x], a, room) => {
  const [width, data] = [onLast(a, x!), x!.data];
  const out = room("float", data.length);
  for (let from = 0; from < data.length; from += width) {
    let most = -Infinity;
    let sum = 0;
    for (let at = from; at < from + width; at++) most = Math.max(most, data[at]!);
    for (let at = from; at < from + width; at++) sum += out[at] = Math.exp(data[at]! - most);
    for (let at = from; at < from + width; at++) out[at]! /= sum;
  }
  return { dims: x!.dims, data: out };
};

const layerNorm: Kernel = ([x, scale, shift], a, room) => {
  const [width, data] = [onLast(a, x!), x!.data];
  const out = room("float", data.length);
  for (let from = 0; from < data.length; from += width) {
    let mean = 0;
    let square = 0;
    for (let at = from; at < from + width; at++) mean += data[at]! / width;
    for (let at = from; at < from + width; at++) square += (data[at]! - mean) ** 2 / width;
    const factor = 1 / Math.sqrt(square + whole(a.epsilon, 1e-5));
    for (let at = 0; at < width; at++)
      out[from + at] = (data[from + at]! - mean) * factor * scale!.data[at]! + (shift?.data[at] ?? 0);
  }
  return { dims: x!.dims, data: out };
};

/** Rows along an axis, by index. */
const gather: Kernel = ([table, index], a, room) => {
  const axis = axisOf(whole(a.axis, 0), table!.dims.length);
  const [outer, count, inner] = [product(table!.dims.slice(0, axis)), table!.dims[axis]!, product(table!.dims.slice(axis + 1))];
  const places = index!.data;
  const out = room(kindOf(table!.data), outer * places.length * inner);
  for (let lead = 0, to = 0; lead < outer; lead++)
    for (let at = 0; at < places.length; at++) {
      const row = axisOf(places[at]!, count);
      if (row < 0 || row >= count) refuse("an index is out of its table");
      const from = (lead * count + row) * inner;
      for (let one = 0; one < inner; one++) out[to++] = table!.data[from + one]!;
    }
  return { dims: [...table!.dims.slice(0, axis), ...index!.dims, ...table!.dims.slice(axis + 1)], data: out };
};

/** The same without copying; for a table of two dimensions and products alone. */
export const gatherRows = (table: Tensor, index: Tensor): Gathered => {
  const rows = index.data as Int32Array;
  for (let at = 0; at < rows.length; at++) if (rows[at]! < 0 || rows[at]! >= table.dims[0]!) refuse("an index is out of its table");
  return { dims: [...index.dims, table.dims[1]!], data: table.data, rows };
};

const gatherNd: Kernel = ([table, index], a, room) => {
  if (a.batch_dims || index!.dims.at(-1) !== 1) refuse("an index of several dimensions");
  return gather([table!, { dims: index!.dims.slice(0, -1), data: index!.data }], {}, room, []);
};

const gatherElements: Kernel = ([x, index], a, room) => {
  const axis = axisOf(whole(a.axis, 0), x!.dims.length);
  const steps = strides(x!.dims, x!.dims.length);
  const [step, count] = [steps[axis]!, x!.dims[axis]!];
  const from = offsets(index!.dims, steps.with(axis, 0));
  const out = room(kindOf(x!.data), from.length);
  for (let at = 0; at < from.length; at++) {
    const place = axisOf(index!.data[at]!, count);
    if (place < 0 || place >= count) refuse("an index is out of its axis");
    out[at] = x!.data[from[at]! + place * step]!;
  }
  return { dims: index!.dims, data: out };
};

const slice: Kernel = ([x, starts, ends, axes, steps], _, room) => {
  let { dims, data } = x!;
  for (let at = 0; at < starts!.data.length; at++) {
    const axis = axisOf(axes ? axes.data[at]! : at, dims.length);
    const count = dims[axis]!;
    const clamped = (place: number): number => Math.max(0, Math.min(count, axisOf(place, count)));
    const [from, to] = [clamped(starts!.data[at]!), clamped(ends!.data[at]!)];
    if (steps && steps.data[at] !== 1) refuse("a slice in steps");
    if (from === 0 && to === count) continue;
    const [outer, inner, length] = [product(dims.slice(0, axis)), product(dims.slice(axis + 1)), Math.max(0, to - from)];
    const size = length * inner;
    if (outer === 1) data = data.subarray(from * inner, from * inner + size);
    else {
      const out = room(kindOf(data), outer * size, at);
      for (let lead = 0; lead < outer; lead++) {
        const begin = (lead * count + from) * inner;
        (out as Float32Array).set(data.subarray(begin, begin + size) as Float32Array, lead * size);
      }
      data = out;
    }
    dims = dims.with(axis, length);
  }
  return { dims, data };
};

const concat: Kernel = (parts, a, room) => {
  const axis = axisOf(whole(a.axis, 0), parts[0]!.dims.length);
  const sizes = parts.map((part) => product(part.dims.slice(axis)));
  const total = sizes.reduce((one, other) => one + other, 0);
  const outer = product(parts[0]!.dims.slice(0, axis));
  const out = room(kindOf(parts[0]!.data), outer * total) as Float32Array;
  for (let lead = 0, to = 0; lead < outer; lead++)
    parts.forEach((part, at) => {
      out.set(part.data.subarray(lead * sizes[at]!, (lead + 1) * sizes[at]!) as Float32Array, to);
      to += sizes[at]!;
    });
  return { dims: parts[0]!.dims.with(axis, parts.reduce((sum, part) => sum + part.dims[axis]!, 0)), data: out };
};

const transpose: Kernel = ([x], a, room) => {
  const rank = x!.dims.length;
  const order = (a.perm as number[] | undefined) ?? Array.from({ length: rank }, (_, at) => rank - 1 - at);
  const steps = strides(x!.dims, rank);
  const dims = order.map((axis) => x!.dims[axis]!);
  const from = offsets(dims, order.map((axis) => steps[axis]!));
  const out = room(kindOf(x!.data), from.length);
  for (let at = 0; at < from.length; at++) out[at] = x!.data[from[at]!]!;
  return { dims, data: out };
};

const reshape: Kernel = ([x, shape], a) => {
  const dims = [...shape!.data].map((count, at) => (count === 0 && !a.allowzero ? x!.dims[at]! : count));
  const open = dims.indexOf(-1);
  if (open >= 0) dims[open] = x!.data.length / -product(dims);
  if (product(dims) !== x!.data.length) refuse("shapes do not fit");
  return { dims, data: x!.data };
};

const squeeze: Kernel = ([x, axes]) => {
  const gone = axes && [...axes.data].map((axis) => axisOf(axis, x!.dims.length));
  return { dims: x!.dims.filter((count, at) => (gone ? !gone.includes(at) : count !== 1)), data: x!.data };
};

const unsqueeze: Kernel = ([x, axes]) => {
  const rank = x!.dims.length + axes!.data.length;
  const added = [...axes!.data].map((axis) => axisOf(axis, rank)).sort((one, other) => one - other);
  const dims = [...x!.dims];
  for (const axis of added) dims.splice(axis, 0, 1);
  return { dims, data: x!.data };
};

const KINDS: Record<number, Kind> = { [FLOAT!]: "float", [INT32!]: "whole", [INT64!]: "whole", [INT8!]: "small", [BOOL!]: "truth" };
const cast: Kernel = ([x], a, room) => {
  const kind = KINDS[a.to as number] ?? refuse("a type that is not known");
  const out = room(kind, x!.data.length);
  const data = x!.data;
  for (let at = 0; at < data.length; at++)
    out[at] = kind === "truth" ? (data[at] ? 1 : 0) : kind === "whole" ? int32(Math.trunc(data[at]!)) : data[at]!;
  return { dims: x!.dims, data: out };
};

const where: Kernel = ([condition, a, b], _, room) => {
  const dims = broadcast(condition!.dims, broadcast(a!.dims, b!.dims));
  const out = room(kindOf(a!.data), product(dims));
  const steps = [condition!, a!, b!].map((one) => offsets(dims, strides(one.dims, dims.length)));
  for (let at = 0; at < out.length; at++)
    out[at] = condition!.data[steps[0]![at]!] ? a!.data[steps[1]![at]!]! : b!.data[steps[2]![at]!]!;
  return { dims, data: out };
};

/** One layer in one direction, each row to its own length; gates are update, reset, new. */
const gru: Kernel = ([x], a, room, [, w, r, b, lengths, initial]) => {
  if (a.linear_before_reset !== 1 || (a.direction ?? "forward") !== "forward" || a.activations || initial || a.layout)
    refuse("a GRU of another kind");
  const [steps, rows, inputs] = x!.dims as [number, number, number];
  const width = a.hidden_size as number;
  const all = room("float", steps * rows * width).fill(0) as Float32Array;
  const last = room("float", rows * width, 1).fill(0) as Float32Array;
  const gates = room("float", 6 * width, 2);
  const [events, input, recurrent] = [x!.data as Float32Array, w!.data as Float32Array, r!.data as Float32Array];
  for (let row = 0; row < rows; row++) {
    const state = last.subarray(row * width, (row + 1) * width);
    for (let step = 0; step < (lengths?.data[row] ?? steps); step++) {
      const event = (step * rows + row) * inputs;
      for (let at = 0; at < 3 * width; at++) {
        gates[at] = dot(events, event, input, at * inputs, inputs) + (b?.data[at] ?? 0);
        gates[at + 3 * width] = dot(state, 0, recurrent, at * width, width) + (b?.data[at + 3 * width] ?? 0);
      }
      for (let at = 0; at < width; at++) {
        const update = sigmoid(gates[at]! + gates[at + 3 * width]!);
        const reset = sigmoid(gates[at + width]! + gates[at + 4 * width]!);
        const fresh = Math.tanh(gates[at + 2 * width]! + reset * gates[at + 5 * width]!);
        state[at] = (1 - update) * fresh + update * state[at]!;
      }
      all.set(state, (step * rows + row) * width);
    }
  }
  return [
    { dims: [steps, 1, rows, width], data: all },
    { dims: [1, rows, width], data: last },
  ];
};

/** Pieces of one dimension, of the sizes that the second input says, or of equal ones. */
const split: Kernel = ([x], a, room, all) => {
  const { dims, data } = x!;
  const axis = axisOf(whole(a.axis, 0), dims.length);
  const length = dims[axis]!;
  const [outer, inner] = [product(dims.slice(0, axis)), product(dims.slice(axis + 1))];
  const count = whole(a.num_outputs, 1);
  const equal = Math.ceil(length / count);
  const sizes = all[1] ? Array.from(all[1].data, Number) : Array.from({ length: count }, (_, at) => Math.min(equal, length - at * equal));
  let begin = 0;
  return sizes.map((size, output) => {
    const out = room(kindOf(data), outer * size * inner, output);
    for (let row = 0, at = 0; row < outer; row++)
      for (let from = (row * length + begin) * inner, end = from + size * inner; from < end; from++) out[at++] = data[from]!;
    begin += size;
    return { dims: dims.with(axis, size), data: out };
  });
};

export const KERNELS: Record<string, Kernel> = {
  Add: binary((a, b) => a + b, undefined, addFloats),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b, undefined, multiplyFloats),
  Div: ([a, b], _, room, all) =>
    binary(a!.data instanceof Float32Array ? (x, y) => x / y : (x, y) => Math.trunc(x / y))([a!, b!], _, room, all),
  Pow: binary(Math.pow),
  Max: binary(Math.max),
  Min: binary(Math.min),
  And: binary((a, b) => a & b),
  Or: binary((a, b) => a | b),
  Equal: binary((a, b) => +(a === b), "truth"),
  Less: binary((a, b) => +(a < b), "truth"),
  LessOrEqual: binary((a, b) => +(a <= b), "truth"),
  Greater: binary((a, b) => +(a > b), "truth"),
  GreaterOrEqual: binary((a, b) => +(a >= b), "truth"),
  Not: unary((x) => 1 - x),
  IsNaN: unary((x) => +Number.isNaN(x), "truth"),
  Neg: unary((x) => -x),
  Abs: unary(Math.abs),
  Sqrt: unary(Math.sqrt),
  Exp: unary(Math.exp),
  Erf: unary(erf),
  Tanh: unary(Math.tanh),
  Relu: unary((x) => Math.max(x, 0)),
  Sigmoid: unary(sigmoid),
  Gelu: (x, a, room, all) =>
    unary(
      a.approximate === "tanh"
        ? (one) => 0.5 * one * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (one + 0.044715 * one ** 3)))
        : (one) => 0.5 * one * (1 + erf(one * Math.SQRT1_2)),
    )(x, a, room, all),
  Clip: (x, a, room, all) => {
    const [least, most] = [all[1]?.data[0] ?? -Infinity, all[2]?.data[0] ?? Infinity];
    return unary((one) => Math.min(Math.max(one, least), most))(x, a, room, all);
  },
  ReduceSum: reduce((sum, value) => sum + value, 0),
  ReduceMean: reduce((sum, value) => sum + value, 0, true),
  ReduceMax: reduce(Math.max, -Infinity),
  MatMul: matmul,
  Gemm: gemm,
  Softmax: softmax,
  LayerNormalization: layerNorm,
  GRU: gru,
  Gather: gather,
  GatherND: gatherNd,
  GatherElements: gatherElements,
  Slice: slice,
  Split: split,
  Concat: concat,
  Transpose: transpose,
  Reshape: reshape,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Flatten: ([x], a) => {
    const lead = product(x!.dims.slice(0, axisOf(whole(a.axis, 1), x!.dims.length)));
    return { dims: [lead, x!.data.length / lead], data: x!.data };
  },
  Identity: ([x]) => x!,
  Cast: cast,
  Where: where,
  Expand: ([x, shape], _, room) => {
    const dims = broadcast(x!.dims, [...shape!.data]);
    return expanded(x!, dims, room(kindOf(x!.data), product(dims)));
  },
  Shape: ([x], a) => {
    const dims = x!.dims.slice(whole(a.start, 0), a.end === undefined ? undefined : whole(a.end, 0));
    return { dims: [dims.length], data: Int32Array.from(dims) };
  },
  Range: ([from, to, step], _, room) => {
    const [begin, by] = [from!.data[0]!, step!.data[0]!];
    const data = room(kindOf(from!.data), Math.max(0, Math.ceil((to!.data[0]! - begin) / by)));
    for (let at = 0; at < data.length; at++) data[at] = begin + at * by;
    return { dims: [data.length], data };
  },
  Constant: (_, a) => a.value as Tensor,
};
