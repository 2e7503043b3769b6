/** How far the behaviour has moved since theta was made, loaded for the policy that asks for it. */
import { FIRST_ITEM } from "./items";
import type { Model, Profiles } from "./model";
import type { Situation } from "./policy";

const ANCHORS = 16;
const SAMPLE = 512;

/** So many item indices, or all, in the middle of as many equal parts of the catalogue. */
export function spread(vocabulary: number, count: number): number[] {
  const known = vocabulary - FIRST_ITEM;
  const size = Math.min(count, known);
  return Array.from({ length: size }, (_, at) => FIRST_ITEM + Math.floor(((2 * at + 1) * known) / (2 * size)));
}

/** Profiles of items, in their order. */
export async function profilesOf(model: Model, items: readonly number[]): Promise<Float64Array[]> {
  const { profiled } = model;
  const [mean, deviation] = await (model.standard ??= standard(model));
  const missing = [...new Set(items)].filter((item) => !profiled.has(item));
  (await raw(model, missing)).forEach((profile, at) =>
    profiled.set(missing[at]!, profile.map((score, one) => (score - mean[one]!) / deviation[one]!)),
  );
  return items.map((item) => profiled.get(item)!);
}

async function standard(model: Model): Promise<[Float64Array, Float64Array]> {
  const found = await raw(model, spread(model.manifest.vocabulary, SAMPLE));
  const mean = found[0]!.map((_, one) => found.reduce((sum, profile) => sum + profile[one]!, 0) / found.length);
  const deviation = mean.map((middle, one) =>
    Math.max(1e-12, Math.sqrt(found.reduce((sum, profile) => sum + (profile[one]! - middle) ** 2, 0) / found.length)),
  );
  return [mean, deviation];
}

/** Of each item its scores after each anchor. */
async function raw({ engine, manifest, zeros }: Model, items: readonly number[]): Promise<Float64Array[]> {
  if (!items.length) return [];
  const anchors = spread(manifest.vocabulary, ANCHORS);
  const rows = anchors.length;
  const scores = await engine.score(
    {
      theta: new Float32Array(rows * zeros.length),
      history: Int32Array.from(anchors),
      candidates: Int32Array.from({ length: rows * items.length }, (_, at) => items[at % items.length]!),
    },
    rows,
  );
  return items.map((_, at) => Float64Array.from({ length: rows }, (_, row) => scores[row * items.length + at]!));
}

/** The decayed mean of the profiles of some items, oldest first. */
async function mean(profiles: Profiles, items: readonly number[], decay: number): Promise<number[]> {
  const found = await profiles(items);
  const weights = found.map((_, at) => decay ** (found.length - 1 - at));
  const total = weights.reduce((one, other) => one + other, 0);
  return [...found[0]!].map((_, one) => found.reduce((sum, profile, at) => sum + weights[at]! * profile[one]!, 0) / total);
}

/** How far the behaviour has moved, in standard deviations of the catalogue. */
export async function driftOf({ profiles, history, madeFrom }: Situation, decay: number): Promise<number> {
  const now = await mean(profiles, history, decay);
  const then = await mean(profiles, madeFrom, decay);
  return Math.sqrt(now.reduce((sum, value, at) => sum + (value - then[at]!) ** 2, 0) / now.length);
}
