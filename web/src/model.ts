/** A verified bundle, loaded, that scores candidates with a theta. */
import { Bundle, type Files, type Manifest } from "./bundle";
import { type Engine, makeEngine } from "./engine";
import { invalidBundle } from "./errors";
import { FIRST_ITEM, PADDING, UNKNOWN } from "./items";

const TOLERANCE = 1e-4;
const ANCHORS = 16;
const SAMPLE = 512;

export interface EngineOptions {
  engine: "auto" | "plain" | "ort";
  /** Address of the module of onnxruntime-web, for bundles that the plain engine does not run. */
  ort: string | null;
}

/** So many item indices, or all, in the middle of as many equal parts of the catalogue. */
export function spread(vocabulary: number, count: number): number[] {
  const known = vocabulary - FIRST_ITEM;
  const size = Math.min(count, known);
  return Array.from({ length: size }, (_, at) => FIRST_ITEM + Math.floor(((2 * at + 1) * known) / (2 * size)));
}

export type Profiles = (items: readonly number[]) => Promise<Float64Array[]>;

export class Model {
  readonly manifest: Manifest;
  readonly id: string;
  readonly zeros: Float32Array;
  readonly catalogue: Int32Array;
  private readonly index: Map<string, number>;

  private constructor(
    readonly bundle: Bundle,
    readonly engine: Engine,
  ) {
    this.manifest = bundle.manifest;
    this.id = this.manifest.model_id;
    this.zeros = new Float32Array(bundle.codec.size);
    this.catalogue = Int32Array.from({ length: this.manifest.vocabulary }, (_, at) => at);
    this.index = new Map(bundle.ids.map((id, at): [string, number] => [id, at]).slice(FIRST_ITEM));
  }

  /** Verify everything that a device uses of a bundle, and prove that it computes here what it should. */
  static async load(files: Files, trusted: readonly string[] | null, options: EngineOptions): Promise<Model> {
    const bundle = await Bundle.open(files, trusted);
    const model = new Model(bundle, await makeEngine(bundle.graph, options.engine, options.ort));
    const { canary } = bundle;
    const window = Int32Array.from(canary.history.slice(-model.manifest.window));
    for (const [theta, expected] of [
      [Float32Array.from(canary.theta), canary.scores],
      [model.zeros, canary.fallback_scores],
    ] as const) {
      let found: Float32Array;
      try {
        found = await model.score(theta, window, Int32Array.from(canary.candidates));
      } catch (cause) {
        throw invalidBundle(`device.onnx does not run: ${(cause as Error).message}`);
      }
      // What is no number fails any comparison.
      const near = (score: number, at: number): boolean =>
        Math.abs(found[at]! - score) <= TOLERANCE + TOLERANCE * Math.abs(score);
      if (!expected.every(near)) throw invalidBundle("device.onnx does not reproduce the scores of canary.json");
    }
    return model;
  }

  find(id: string): number {
    return this.index.get(id) ?? UNKNOWN;
  }

  indices(ids: readonly string[]): Int32Array {
    return Int32Array.from(ids, (id) => this.find(id));
  }

  /** Scores of candidates; an empty history is one padding. */
  score(theta: Float32Array, history: Int32Array, candidates: Int32Array): Float32Array | Promise<Float32Array> {
    if (!candidates.length) return new Float32Array(0);
    return this.engine.score({ theta, history: history.length ? history : new Int32Array([PADDING]), candidates }, 1);
  }

  private known: Promise<[mean: Float64Array, deviation: Float64Array]> | null = null;
  private readonly profiled = new Map<number, Float64Array>();

  /** What the model thinks of items: their scores, with theta = 0, after each of some anchors, standardised. */
  readonly profiles: Profiles = async (items) => {
    const [mean, deviation] = await (this.known ??= this.standard());
    const missing = [...new Set(items)].filter((item) => !this.profiled.has(item));
    (await this.raw(missing)).forEach((profile, at) =>
      this.profiled.set(missing[at]!, profile.map((score, one) => (score - mean[one]!) / deviation[one]!)),
    );
    return items.map((item) => this.profiled.get(item)!);
  };

  private async standard(): Promise<[Float64Array, Float64Array]> {
    const raw = await this.raw(spread(this.manifest.vocabulary, SAMPLE));
    const mean = raw[0]!.map((_, one) => raw.reduce((sum, profile) => sum + profile[one]!, 0) / raw.length);
    const deviation = mean.map((middle, one) =>
      Math.max(1e-12, Math.sqrt(raw.reduce((sum, profile) => sum + (profile[one]! - middle) ** 2, 0) / raw.length)),
    );
    return [mean, deviation];
  }

  /** Of each item its scores after each anchor. */
  private async raw(items: readonly number[]): Promise<Float64Array[]> {
    if (!items.length) return [];
    const anchors = spread(this.manifest.vocabulary, ANCHORS);
    const rows = anchors.length;
    const scores = await this.engine.score(
      {
        theta: new Float32Array(rows * this.zeros.length),
        history: Int32Array.from(anchors),
        candidates: Int32Array.from({ length: rows * items.length }, (_, at) => items[at % items.length]!),
      },
      rows,
    );
    return items.map((_, at) => Float64Array.from({ length: rows }, (_, row) => scores[row * items.length + at]!));
  }

  /** Profiles are kept of the items that were seen, and so tell which. */
  forget(): void {
    this.profiled.clear();
    this.engine.forget();
  }
}
