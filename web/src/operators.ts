/** Operators of ONNX that the backbone SASRec does not need, loaded for graphs that have them. */
import { product } from "./bytes";
import { axisIn, begins, binary, erf, gather, type Kernel, matmul, type Multiply, multiply, reduce, refuse, unary } from "./kernels";
import type { Tensor } from "./onnx";

/** Two rows times four columns: each value that is read serves several products. */
function tile(two: Float64Array, matrix: Float64Array, column: number, k: number, out: Float32Array, to: number, n: number): void {
  const c = column * k;
  const d = c + k;
  const e = d + k;
  const f = e + k;
  let p = 0;
  let q = 0;
  let r = 0;
  let s = 0;
  let t = 0;
  let u = 0;
  let v = 0;
  let w = 0;
  for (let i = 0; i < k; i++) {
    const x = two[i]!;
    const y = two[k + i]!;
    p += x * matrix[c + i]!;
    q += x * matrix[d + i]!;
    r += x * matrix[e + i]!;
    s += x * matrix[f + i]!;
    t += y * matrix[c + i]!;
    u += y * matrix[d + i]!;
    v += y * matrix[e + i]!;
    w += y * matrix[f + i]!;
  }
  out[to] = p;
  out[to + 1] = q;
  out[to + 2] = r;
  out[to + 3] = s;
  out[to + n] = t;
  out[to + n + 1] = u;
  out[to + n + 2] = v;
  out[to + n + 3] = w;
}

/** For many rows: each value that is read serves several products, and is made a float64, in which all is added up, once. */
const multiplyMany: Multiply = (a, ao, rows, b, bo, down, across, out, oo, m, k, n) => {
  if (n < 4 || m < 2) return multiply(a, ao, rows, b, bo, down, across, out, oo, m, k, n);
  const from = begins(rows, ao, m, k);
  const matrix = new Float64Array(n * k);
  const two = new Float64Array(2 * k);
  for (let at = 0, to = 0; at < n; at++) for (let i = 0; i < k; i++) matrix[to++] = b[bo + i * down + at * across]!;
  for (let row = 0; row < m; row += 2) {
    // The last two rows, and the last four columns, may repeat some that are done.
    const first = Math.min(row, m - 2);
    for (let i = 0; i < k; i++) {
      two[i] = a[from[first]! + i]!;
      two[k + i] = a[from[first + 1]! + i]!;
    }
    for (let at = 0; at < n; at += 4) tile(two, matrix, Math.min(at, n - 4), k, out, oo + first * n + Math.min(at, n - 4), n);
  }
};

const sums = reduce((sum, value) => sum + value, 0);
const HIGHEST = 200;
const POWERS = Float64Array.from({ length: 2 * HIGHEST + 1 }, (_, at) => 2 ** (at - HIGHEST));

/** As accurate as float32 is, in a third of the time of `Math.exp`: a power of two, and a polynomial for what is left, in [0, 1). */
function sigmoid(x: number): number {
  const power = Math.min(Math.max(x * -Math.LOG2E, -HIGHEST), HIGHEST);
  const whole = Math.floor(power);
  const f = power - whole;
  const rest = 1 + f * (0.69314693 + f * (0.24023045 + f * (0.05548063 + f * (0.009684186 + f * (0.0012391332 + f * 0.00021865785)))));
  return 1 / (1 + POWERS[whole + HIGHEST]! * rest);
}

/** Of many: in a loop of its own, since one that meets several functions calls each. */
const sigmoids: Kernel = ([{ dims, data }], _, room) => {
  const out = room(Float32Array, data.length) as Float32Array;
  const values = data as Float32Array;
  for (let at = 0; at < out.length; at++) out[at] = sigmoid(values[at]!);
  return { dims, data: out };
};

const gatherNd: Kernel = ([table, { dims, data }], a, room) => {
  if (a.batch_dims || dims.at(-1) !== 1) refuse();
  return gather([table, { dims: dims.slice(0, -1), data }, table], {}, room);
};

/** One layer in one direction, each row to its own length; gates are update, reset, new. */
const gru: Kernel = ([x, w, r, b, lengths, initial], a, room) => {
  if (a.linear_before_reset !== 1 || (a.direction ?? "forward") !== "forward" || a.activations || a.layout)
    refuse();
  const [steps, rows, inputs] = x.dims as [number, number, number];
  const width = a.hidden_size as number;
  const all = room(Float32Array, steps * rows * width).fill(0) as Float32Array;
  const last = room(Float32Array, rows * width, 1).fill(0) as Float32Array;
  if (initial) last.set(initial.data);
  const gates = room(Float32Array, 6 * width, 2) as Float32Array;
  const [events, input, recurrent] = [x, w, r!].map(({ data }) => data) as [Float32Array, Float32Array, Float32Array];
  for (let row = 0; row < rows; row++) {
    const state = last.subarray(row * width, (row + 1) * width);
    for (let step = 0; step < (lengths?.data[row] ?? steps); step++) {
      multiply(events, step * rows + row, undefined, input, 0, 1, inputs, gates, 0, 1, inputs, 3 * width);
      multiply(last, row, undefined, recurrent, 0, 1, width, gates, 3 * width, 1, width, 3 * width);
      if (b) for (let at = 0; at < gates.length; at++) gates[at]! += b.data[at]!;
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

export const OPERATORS: Record<string, Kernel> = {
  MatMul: matmul(multiplyMany),
  GRU: gru,
  GatherND: gatherNd,
  IsNaN: unary((x) => +Number.isNaN(x), Uint8Array),
  Sigmoid: sigmoids,
  Pow: binary(Math.pow),
  Max: binary(Math.max),
  Min: binary(Math.min),
  And: binary((a, b) => a & b),
  Or: binary((a, b) => a | b),
  Less: binary((a, b) => +(a < b), Uint8Array),
  GreaterOrEqual: binary((a, b) => +(a >= b), Uint8Array),
  Greater: binary((a, b) => +(a > b), Uint8Array),
  Neg: unary((x) => -x),
  Abs: unary(Math.abs),
  Sqrt: unary(Math.sqrt),
  Exp: unary(Math.exp),
  Erf: unary(erf),
  Tanh: unary(Math.tanh),
  Relu: unary((x) => Math.max(x, 0)),
  ReduceMean: (x, a, room) => {
    const { dims, data } = sums(x, a, room) as Tensor;
    return { dims, data: data.map((sum) => (sum * data.length) / x[0].data.length) };
  },
  ReduceMax: reduce(Math.max, -Infinity),
  Flatten: ([x], a) => {
    const lead = product(x.dims.slice(0, axisIn(a, x, 1)));
    return { dims: [lead, x.data.length / lead], data: x.data };
  },
  Identity: ([x]) => x,
  Constant: (_, a) => a.value as Tensor,
};
