/** Operators of ONNX that no backbone needs, loaded for graphs that have them. */
import { axisIn, binary, erf, type Kernel, product, reduce, unary } from "./kernels";
import type { Tensor } from "./onnx";

export const OPERATORS: Record<string, Kernel> = {
  Pow: binary(Math.pow),
  Max: binary(Math.max),
  Min: binary(Math.min),
  And: binary((a, b) => a & b),
  Or: binary((a, b) => a | b),
  Less: binary((a, b) => +(a < b), "truth"),
  Greater: binary((a, b) => +(a > b), "truth"),
  Neg: unary((x) => -x),
  Abs: unary(Math.abs),
  Sqrt: unary(Math.sqrt),
  Exp: unary(Math.exp),
  Erf: unary(erf),
  Tanh: unary(Math.tanh),
  Relu: unary((x) => Math.max(x, 0)),
  ReduceMean: reduce((sum, value) => sum + value, 0, true),
  ReduceMax: reduce(Math.max, -Infinity),
  Flatten: ([x], a) => {
    const lead = product(x.dims.slice(0, axisIn(a, x, 1)));
    return { dims: [lead, x.data.length / lead], data: x.data };
  },
  Identity: ([x]) => x,
  Constant: (_, a) => a.value as Tensor,
};
