/** ONNX Runtime in WebAssembly, from an address of the page's own: for graphs that the plain kernels do not know. */
import type { Bytes } from "./bytes";
import { NAMES, type Engine, type Inputs } from "./engine";
import { invalidBundle } from "./refusals";

/** What is used of onnxruntime-web. */
interface Runtime {
  env: { wasm: { numThreads?: number; wasmPaths?: unknown } };
  Tensor: new (type: string, data: Float32Array | BigInt64Array, dims: number[]) => { data: unknown; dispose(): void };
  InferenceSession: { create(content: Uint8Array, options: object): Promise<Session> };
}
interface Session {
  run(feeds: object): Promise<Record<string, { data: unknown; dispose(): void }>>;
  release(): Promise<void>;
}

export class OrtEngine implements Engine {
  readonly name = "ort";
  /** A session runs one call at a time. */
  private turn: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly runtime: Runtime,
    private readonly session: Session,
  ) {}

  static async load(content: Bytes, address: string): Promise<OrtEngine> {
    try {
      const runtime = (await import(/* @vite-ignore */ /* webpackIgnore: true */ address)) as Runtime;
      runtime.env.wasm.numThreads = 1;
      return new OrtEngine(runtime, await runtime.InferenceSession.create(content, { executionProviders: ["wasm"], logSeverityLevel: 4 }));
    } catch (cause) {
      throw invalidBundle(`device.onnx cannot be loaded: ${(cause as Error).message}`);
    }
  }

  score(inputs: Inputs, rows: number): Promise<Float32Array> {
    const now = this.turn.then(() => this.run(inputs, rows));
    this.turn = now.catch(() => undefined);
    return now;
  }

  private async run(inputs: Inputs, rows: number): Promise<Float32Array> {
    const feeds = NAMES.map((name) => {
      const data = inputs[name];
      const dims = [rows, data.length / rows];
      return data instanceof Float32Array
        ? new this.runtime.Tensor("float32", data, dims)
        : new this.runtime.Tensor("int64", BigInt64Array.from(data, BigInt), dims);
    });
    const { scores } = await this.session.run(Object.fromEntries(NAMES.map((name, at) => [name, feeds[at]])));
    const found = Float32Array.from(scores!.data as Float32Array);
    for (const tensor of [...feeds, scores!]) tensor.dispose();
    return found;
  }

  /** Nothing is kept from call to call. */
  forget(): void {}

  close(): void {
    void this.turn.then(() => this.session.release());
  }
}
