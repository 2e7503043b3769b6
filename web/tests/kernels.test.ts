import { expect, test } from "vitest";
import { type Gathered, KERNELS, type Room } from "../src/kernels";
import type { Tensor } from "../src/onnx";
import { OPERATORS } from "../src/operators";

const room: Room = (kind, size) => new kind(size);
/** Small whole numbers, all different from their neighbours: every sum of products is exact. */
const filled = (...dims: number[]): Tensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((one, other) => one * other, 1) }, (_, at) => ((at * 7) % 11) - 5),
});
const run = (op: string, inputs: Tensor[], attributes = {}, kernels = KERNELS): Tensor => kernels[op]!(inputs as never, attributes, room) as Tensor;

const SIZES = [1, 2, 3, 4, 5, 9];
const shapes = SIZES.flatMap((m) => SIZES.flatMap((k) => SIZES.map((n) => [m, k, n] as const)));

test("products of every shape are sums of products", () => {
  for (const [m, k, n] of shapes) {
    const [a, b, c] = [filled(m, k), filled(k, n), filled(n)];
    const expected = Array.from({ length: m * n }, (_, at) => {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += a.data[Math.floor(at / n) * k + i]! * b.data[i * n + (at % n)]!;
      return sum;
    });
    const turned = run("Transpose", [b]);
    const biased = expected.map((sum, at) => sum + c.data[at % n]!);
    expect([...run("Gemm", [a, b, c]).data]).toEqual(biased);
    expect([...run("Gemm", [a, turned, c], { transB: 1 }).data]).toEqual(biased);
    const rows = Int32Array.from({ length: m }, (_, at) => m - 1 - at);
    const backwards = { ...a, rows } as Gathered;
    for (const kernels of [KERNELS, OPERATORS]) {
      expect([...run("MatMul", [a, b], {}, kernels).data]).toEqual(expected);
      const turned = [...rows].flatMap((row) => expected.slice(row * n, (row + 1) * n));
      expect([...run("MatMul", [backwards, b], {}, kernels).data]).toEqual(turned);
    }
  }
});

test("means are those of the axes that are left out", () => {
  const mean = (axes: number[], keepdims: number): Tensor => run("ReduceMean", [filled(2, 3)], { axes, keepdims }, OPERATORS);
  // -5 2 -2 / 5 1 -3
  expect([mean([1], 0).dims, [...mean([1], 0).data]]).toEqual([[2], [-5 / 3, 1].map(Math.fround)]);
  expect([mean([0, -1], 1).dims, [...mean([0, -1], 1).data]]).toEqual([[1, 1], [Math.fround(-1 / 3)]]);
});

test("one matrix is multiplied for each of several", () => {
  const [a, b] = [filled(2, 3, 4), filled(4, 5)];
  const whole = run("MatMul", [a, b]);
  const parts = [0, 1].flatMap((at) => [...run("MatMul", [{ dims: [3, 4], data: a.data.subarray(at * 12, at * 12 + 12) }, b]).data]);
  expect([whole.dims, [...whole.data]]).toEqual([[2, 3, 5], parts]);
});

test("a sigmoid is that of Math as far as float32 tells, anywhere", () => {
  const data = Float32Array.from({ length: 20_001 }, (_, at) => (at - 10_000) / 500);
  const found = run("Sigmoid", [{ dims: [data.length], data }], {}, OPERATORS).data;
  const off = Array.from(found, (value, at) => Math.abs(value * (1 + Math.exp(-data[at]!)) - 1));
  expect(Math.max(...off)).toBeLessThan(1e-7);
  const ends = Float32Array.of(0, -90, 500, -500, Infinity, -Infinity, NaN);
  const [half, least, ...others] = run("Sigmoid", [{ dims: [7], data: ends }], {}, OPERATORS).data;
  expect(half).toBe(0.5);
  expect(least! / Math.exp(-90)).toBeCloseTo(1, 6);
  expect(others).toEqual([1, 0, 1, 0, NaN]);
});
