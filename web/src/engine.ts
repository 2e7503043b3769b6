/** What runs a bundle's graph: plain kernels, or ONNX Runtime for graphs with operators that these do not know. */
import type { Bytes } from "./bytes";
import { invalidBundle } from "./errors";
import { ARRAYS, gatherRows, KERNELS, type Room } from "./kernels";
import { type Graph, type Node, readGraph, type Tensor } from "./onnx";

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

/** The operators of a graph that the plain kernels do not know. */
export const foreign = (graph: Graph): string[] => [
  ...new Set(graph.nodes.filter(({ op, domain }) => domain || !Object.hasOwn(KERNELS, op)).map(({ op }) => op)),
];

/** Refuses a graph that maps anything else to anything else. */
function checkNames(graph: Graph): void {
  const inputs = graph.inputs.filter((name) => !Object.hasOwn(graph.constants, name));
  if (inputs.toSorted().join() !== NAMES.toSorted().join() || graph.outputs.join() !== "scores")
    throw invalidBundle("device.onnx does not map theta, history and candidates to scores");
}

interface Step extends Node {
  room: Room;
  /** Which inputs it depends on, a bit each: a step whose inputs are those of the run before is left out. */
  needs: number;
  /** A table's rows that are multiplied and not looked at otherwise need not be copied. */
  lazy: boolean;
}

/** Runs a graph node by node. */
export class PlainEngine implements Engine {
  readonly name = "plain";
  private readonly steps: Step[] = [];
  private readonly values: Record<string, Tensor> = Object.create(null);
  private readonly kept: Map<number, Tensor["data"]>[] = [];
  private last: Inputs | null = null;

  constructor(private readonly graph: Graph) {
    checkNames(graph);
    Object.assign(this.values, graph.constants);
    const needs: Record<string, number> = { theta: 1, history: 2, candidates: 4 };
    for (const node of graph.nodes) {
      const kept = new Map<number, Tensor["data"]>();
      const room: Room = (kind, size, output = 0) => {
        const found = kept.get(output);
        if (found?.length === size && found instanceof ARRAYS[kind]) return found;
        const made = new ARRAYS[kind](size);
        kept.set(output, made);
        return made;
      };
      const users = graph.nodes.filter(({ inputs }) => inputs.includes(node.outputs[0]!));
      const lazy =
        node.op === "Gather" &&
        !node.attributes.axis &&
        graph.constants[node.inputs[0]!]?.dims.length === 2 &&
        graph.constants[node.inputs[0]!]!.data instanceof Float32Array &&
        !graph.outputs.includes(node.outputs[0]!) &&
        users.every(({ op, inputs }) => op === "MatMul" && inputs[0] === node.outputs[0] && inputs[1] !== node.outputs[0]);
      const step = { ...node, room, lazy, needs: node.inputs.reduce((bits, name) => bits | (needs[name] ?? 0), 0) };
      for (const name of node.outputs) needs[name] = step.needs;
      if (!step.needs) {
        this.run(step);
        continue;
      }
      this.steps.push(step);
      this.kept.push(kept);
    }
  }

  private run({ op, inputs, outputs, attributes, room, lazy }: Step): void {
    const all = inputs.map((name) => (name ? this.values[name] : undefined));
    if (inputs.some((name, at) => name && !all[at])) throw new RangeError(`the graph has no ${inputs.join()}`);
    const given = all as Tensor[];
    const found = lazy ? gatherRows(given[0]!, given[1]!) : KERNELS[op]!(given, attributes, room, all);
    if (Array.isArray(found)) outputs.forEach((name, at) => (this.values[name] = found[at]!));
    else this.values[outputs[0]!] = found;
  }

  score(inputs: Inputs, rows: number): Float32Array {
    let changed = 0;
    NAMES.forEach((name, at) => {
      if (this.last?.[name] !== inputs[name]) changed |= 1 << at;
      this.values[name] = { dims: [rows, inputs[name].length / rows], data: inputs[name] };
    });
    // Until all has gone well, nothing of it may be taken for done.
    this.last = null;
    for (const step of this.steps) if (step.needs & changed) this.run(step);
    this.last = { ...inputs };
    const scores = this.values[this.graph.outputs[0]!]!.data;
    if (!(scores instanceof Float32Array) || scores.length !== inputs.candidates.length)
      throw invalidBundle("device.onnx does not give a score for each candidate");
    return scores.slice();
  }

  forget(): void {
    this.last = null;
    for (const kept of this.kept) kept.clear();
    for (const { outputs } of this.steps) for (const name of outputs) delete this.values[name];
    for (const name of NAMES) delete this.values[name];
  }

  close(): void {
    this.forget();
  }
}

/** An engine for a graph: plain where that is enough; `ort` is the address of the module of onnxruntime-web. */
export async function makeEngine(content: Bytes, wanted: "auto" | "plain" | "ort", ort: string | null): Promise<Engine> {
  const graph = readGraph(content);
  const unknown = foreign(graph);
  if (wanted !== "ort" && !unknown.length) return new PlainEngine(graph);
  if (wanted === "plain" || !ort)
    throw invalidBundle(`the plain engine does not know ${unknown.join(", ")}, and no onnxruntime-web is named`);
  checkNames(graph);
  const { OrtEngine } = await import("./ort");
  return OrtEngine.load(content, ort, graph);
}
