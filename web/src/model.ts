/** A verified bundle, loaded, that scores candidates with a theta. */
import { type Bundle, openBundle, type Source } from "./bundle";
import { sizeOf } from "./bytes";
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

export interface Model extends Bundle {
  readonly id: string;
  readonly engine: Engine;
  readonly zeros: Float32Array;
  readonly catalogue: Int32Array;
  find(id: string): number;
  indices(ids: readonly string[]): Int32Array;
  /** Scores of candidates; an empty history is one padding. */
  score(theta: Float32Array, history: Int32Array, candidates: Int32Array): Float32Array | Promise<Float32Array>;
  /** What drift keeps: mean and deviation of the catalogue's profiles, and profiles by item. */
  standard: Promise<[mean: Float64Array, deviation: Float64Array]> | null;
  readonly profiled: Map<number, Float64Array>;
  readonly profiles: Profiles;
  /** Profiles are kept of the items that were seen, and so tell which. */
  forget(): void;
}

/** Verify everything that a device uses of a bundle, and prove that it computes here what it should. */
export async function loadModel(source: Source, trusted: readonly string[] | null, options: EngineOptions, modelId: string | null = null): Promise<Model> {
  const bundle = await openBundle(source, trusted, modelId);
  const { manifest, ids, canary, files } = bundle;
  const engine = await makeEngine(files["device.onnx"]!, options.engine, options.ort);
  const index = new Map<string, number>();
  const find: Model["find"] = (id) => {
    // Made when it is needed: the first ranking of a device that has seen nothing is not.
    if (!index.size) for (let at = FIRST_ITEM; at < ids.length; at++) index.set(ids[at]!, at);
    return index.get(id) ?? UNKNOWN;
  };
  const score: Model["score"] = (theta, history, candidates) =>
    candidates.length ? engine.score({ theta, history: history.length ? history : new Int32Array([PADDING]), candidates }, 1) : new Float32Array(0);
  const zeros = new Float32Array(sizeOf(manifest.layout));
  const prove = async (values: Float32Array, expected: number[]): Promise<void> => {
    const found = await score(values, Int32Array.from(canary.history.slice(-manifest.window)), Int32Array.from(canary.candidates));
    // What is no number fails any comparison.
    if (!expected.every((score, at) => Math.abs(found[at]! - score) <= TOLERANCE + TOLERANCE * Math.abs(score)))
      throw new RangeError("they differ");
  };
  try {
    await prove(Float32Array.from(canary.theta), canary.scores);
    await prove(zeros, canary.fallback_scores);
  } catch (cause) {
    throw invalidBundle(`device.onnx does not compute the scores of canary.json: ${(cause as Error).message}`);
  }
  const model: Model = {
    ...bundle,
    id: manifest.model_id,
    engine,
    zeros,
    catalogue: Int32Array.from(ids, (_, at) => at),
    find,
    indices: (ids) => Int32Array.from(ids, find),
    score,
    standard: null,
    profiled: new Map(),
    profiles: async (items) => (await import("./drift")).profilesOf(model, items),
    forget() {
      model.profiled.clear();
      engine.forget();
    },
  };
  return model;
}
