/** A verified bundle, loaded, that scores candidates with a theta. */
import { Bundle, type Manifest, type Source } from "./bundle";
import { type Engine, makeEngine } from "./engine";
import { FIRST_ITEM, PADDING, UNKNOWN } from "./items";
import { invalidBundle } from "./refusals";

const TOLERANCE = 1e-4;
export interface EngineOptions {
  engine: "auto" | "plain" | "ort";
  /** Address of the module of onnxruntime-web, for bundles that the plain engine does not run. */
  ort: string | null;
}

/** What the model thinks of items: their scores, with theta = 0, after each of some anchors, standardised. */
export type Profiles = (items: readonly number[]) => Promise<Float64Array[]>;

export class Model {
  readonly manifest: Manifest;
  readonly id: string;
  readonly zeros: Float32Array;
  readonly catalogue: Int32Array;
  private readonly index = new Map<string, number>();

  private constructor(
    readonly bundle: Bundle,
    readonly engine: Engine,
  ) {
    this.manifest = bundle.manifest;
    this.id = this.manifest.model_id;
    this.zeros = new Float32Array(bundle.size);
    this.catalogue = Int32Array.from({ length: this.manifest.vocabulary }, (_, at) => at);
  }

  /** Verify everything that a device uses of a bundle, and prove that it computes here what it should. */
  static async load(source: Source, trusted: readonly string[] | null, options: EngineOptions, modelId: string | null = null): Promise<Model> {
    const bundle = await Bundle.open(source, trusted, modelId);
    const model = new Model(bundle, await makeEngine(bundle.files["device.onnx"]!, options.engine, options.ort));
    const { history, candidates, theta, scores, fallback_scores } = bundle.canary;
    const window = Int32Array.from(history.slice(-model.manifest.window));
    const prove = async (values: Float32Array, expected: number[]): Promise<void> => {
      const found = await model.score(values, window, Int32Array.from(candidates));
      // What is no number fails any comparison.
      if (!expected.every((score, at) => Math.abs(found[at]! - score) <= TOLERANCE + TOLERANCE * Math.abs(score)))
        throw new RangeError("not the scores of canary.json");
    };
    try {
      await prove(Float32Array.from(theta), scores);
      await prove(model.zeros, fallback_scores);
    } catch (cause) {
      throw invalidBundle(`device.onnx does not compute what it should: ${(cause as Error).message}`);
    }
    return model;
  }

  find(id: string): number {
    // Made when it is needed: the first ranking of a device that has seen nothing is not.
    if (!this.index.size) for (let at = FIRST_ITEM; at < this.bundle.ids.length; at++) this.index.set(this.bundle.ids[at]!, at);
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

  /** What drift keeps: mean and deviation of the catalogue's profiles, and profiles by item. */
  standard: Promise<[mean: Float64Array, deviation: Float64Array]> | null = null;
  readonly profiled = new Map<number, Float64Array>();

  readonly profiles: Profiles = async (items) => (await import("./drift")).profilesOf(this, items);

  /** Profiles are kept of the items that were seen, and so tell which. */
  forget(): void {
    this.profiled.clear();
    this.engine.forget();
  }
}
