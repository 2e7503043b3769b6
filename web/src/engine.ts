/** What runs a bundle's graph: plain kernels, or ONNX Runtime for graphs with operators that these do not know. */
import type { Bytes } from "./bytes";
import { ARRAYS, gatherRows, type Kernel, KERNELS, type Room } from "./kernels";
import { type Data, type Graph, readGraph, type Tensor } from "./onnx";
import { invalidBundle } from "./refusals";

/** Theta, histories and candidates of some rows; every array is one row after the other. */
export interface Inputs {
  theta: Float32Array;
  history: Int32Array;
  candidates: Int32Array;
}
export interface Engine {
  readonly name: "plain" | "ort";
  /** Scores of each row's candidates: a fresh array. An input that is the very array of the call before was not changed. */
  score(inputs: Inputs, rows: number): Float32Array | Promise<Float32Array>;
  /** Let go of what earlier calls left: it holds a device's window and theta. */
  forget(): void;
  close(): void;
}

export const NAMES = ["theta", "history", "candidates"] as const;

interface Step {
  /** Which inputs it depends on, a bit each: a step whose inputs are those of the run before is left out. */
  needs: number;
  run(): void;
}

/** Runs a graph node by node. */
class PlainEngine implements Engine {
  readonly name = "plain";
  private readonly steps: Step[] = [];
  private readonly values: Record<string, Tensor | undefined> = Object.create(null);
  private readonly kept: Data[][] = [];
  private last: Inputs | null = null;

  constructor({ nodes, constants }: Graph, kernels: Record<string, Kernel>) {
    const { values } = this;
    Object.assign(values, constants);
    const needs: Record<string, number> = { theta: 1, history: 2, candidates: 4 };
    for (const { op, inputs, outputs, attributes } of nodes) {
      const kept: Data[] = [];
      const room: Room = (kind, size, output = 0) => {
        const found = kept[output];
        return found?.length === size && found instanceof ARRAYS[kind] ? found : (kept[output] = new ARRAYS[kind](size));
      };
      // A table's rows that are multiplied and not looked at otherwise need not be copied.
      const table = constants[inputs[0]!];
      const lazy =
        op === "Gather" &&
        !attributes.axis &&
        table?.dims.length === 2 &&
        table.data instanceof Float32Array &&
        outputs[0] !== "scores" &&
        nodes.every((user) => user.inputs.every((name, at) => name !== outputs[0] || (user.op === "MatMul" && !at)));
      const kernel = lazy ? gatherRows : kernels[op]!;
      const step = {
        needs: inputs.reduce((bits, name) => bits | (needs[name] ?? 0), 0),
        run: () => {
          const given = inputs.map((name) => (name ? (values[name] ?? never(name)) : undefined));
          const found = [kernel(given as Parameters<Kernel>[0], attributes, room)].flat();
          outputs.forEach((name, at) => (values[name] = found[at]!));
        },
      };
      for (const name of outputs) needs[name] = step.needs;
      if (step.needs) {
        this.steps.push(step);
        this.kept.push(kept);
      } else step.run();
    }
  }

  score(inputs: Inputs, rows: number): Float32Array {
    let changed = 0;
    NAMES.forEach((name, at) => {
      if (this.last?.[name] !== inputs[name]) changed |= 1 << at;
      this.values[name] = { dims: [rows, inputs[name].length / rows], data: inputs[name] };
    });
    // Until all has gone well, nothing of it may be taken for done.
    this.last = null;
    for (const step of this.steps) if (step.needs & changed) step.run();
    this.last = inputs;
    const scores = this.values.scores!.data;
    if (!(scores instanceof Float32Array) || scores.length !== inputs.candidates.length) throw new RangeError("not a score for each candidate");
    return scores.slice();
  }

  forget(): void {
    this.last = null;
    for (const kept of this.kept) kept.length = 0;
    for (const name of NAMES) delete this.values[name];
  }

  close(): void {
    this.forget();
  }
}

const never = (name: string): never => {
  throw new RangeError(`the graph has no ${name}`);
};

/** An engine for a graph: plain where that is enough; `ort` is the address of the module of onnxruntime-web. */
export async function makeEngine(content: Bytes, wanted: "auto" | "plain" | "ort", ort: string | null): Promise<Engine> {
  const graph = readGraph(content);
  const inputs = graph.inputs.filter((name) => !(name in graph.constants));
  if (inputs.sort().join() !== [...NAMES].sort().join() || graph.outputs.join() !== "scores")
    throw invalidBundle("device.onnx does not map theta, history and candidates to scores");
  const foreign = (kernels: object): string[] =>
    graph.nodes.filter(({ op, domain }) => domain || !Object.hasOwn(kernels, op)).map(({ op }) => op);
  let kernels = KERNELS;
  if (wanted !== "ort" && foreign(kernels).length) kernels = { ...kernels, ...(await import("./operators")).OPERATORS };
  const unknown = foreign(kernels);
  if (wanted !== "ort" && !unknown.length) return new PlainEngine(graph, kernels);
  if (wanted === "plain" || !ort) throw invalidBundle(`the plain engine does not know ${unknown}, and no onnxruntime-web is named`);
  return (await import("./ort")).OrtEngine.load(content, ort);
}
