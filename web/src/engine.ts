/** What runs a bundle's graph: plain kernels, or ONNX Runtime for graphs with operators that these do not know. */
import type { Bytes } from "./bytes";
import { gatherRows, type Kernel, KERNELS, refuse, type Room } from "./kernels";
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
  /** Its outputs, used again from run to run. */
  kept: Data[];
  run(): void;
}

/** Runs a graph node by node. */
function plainEngine({ nodes, constants }: Graph, kernels: Record<string, Kernel>): Engine {
  const steps: Step[] = [];
  const values: Record<string, Tensor | undefined> = Object.assign(Object.create(null), constants);
  const needs: Record<string, number> = { theta: 1, history: 2, candidates: 4 };
  let last: Inputs | null = null;
  for (const { op, inputs, outputs, attributes } of nodes) {
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
    const step: Step = {
      needs: inputs.reduce((bits, name) => bits | (needs[name] ?? 0), 0),
      kept: [],
      run() {
        try {
          const given = inputs.map((name) => (name ? (values[name] ?? refuse()) : undefined));
          const room: Room = (kind, size, output = 0) => {
            const found = step.kept[output];
            return found?.length === size && found instanceof kind ? found : (step.kept[output] = new kind(size));
          };
          const found = [kernel(given as Parameters<Kernel>[0], attributes, room)].flat();
          outputs.forEach((name, at) => (values[name] = found[at]!));
        } catch {
          throw new RangeError(`the plain engine cannot do this ${op}`);
        }
      },
    };
    for (const name of outputs) needs[name] = step.needs;
    if (step.needs) steps.push(step);
    else step.run();
  }
  const forget = (): void => {
    last = null;
    for (const step of steps) step.kept = [];
    for (const name of NAMES) delete values[name];
  };
  return {
    name: "plain",
    score(inputs, rows) {
      let changed = 0;
      NAMES.forEach((name, at) => {
        if (last?.[name] !== inputs[name]) changed |= 1 << at;
        values[name] = { dims: [rows, inputs[name].length / rows], data: inputs[name] };
      });
      // Until all has gone well, nothing of it may be taken for done.
      last = null;
      for (const step of steps) if (step.needs & changed) step.run();
      last = inputs;
      const { data } = values.scores!;
      if (!(data instanceof Float32Array) || data.length !== inputs.candidates.length) throw new RangeError("not a score for each candidate");
      return data.slice();
    },
    forget,
    close: forget,
  };
}

/** An engine for a graph: plain where that is enough; `ort` is the address of the module of onnxruntime-web. */
export async function makeEngine(content: Bytes, wanted: "auto" | "plain" | "ort", ort: string | null): Promise<Engine> {
  const graph = readGraph(content);
  const inputs = graph.inputs.filter((name) => !(name in graph.constants));
  if (inputs.sort().join() !== [...NAMES].sort().join() || graph.outputs.join() !== "scores")
    throw invalidBundle("device.onnx does not map theta, history and candidates to scores");
  let kernels = KERNELS;
  const foreign = (): string[] => graph.nodes.filter(({ op, domain }) => domain || !Object.hasOwn(kernels, op)).map(({ op }) => op);
  if (wanted !== "ort") {
    if (foreign().length) kernels = { ...kernels, ...(await import("./operators")).OPERATORS };
    if (!foreign().length) return plainEngine(graph, kernels);
  }
  if (wanted === "plain" || !ort) throw invalidBundle(`the plain engine does not know ${foreign()}, and no onnxruntime-web is named`);
  return (await import("./ort")).OrtEngine.load(content, ort);
}
