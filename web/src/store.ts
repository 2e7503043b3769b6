/** The one theta that a device ranks with, checked before it is used and again when it is loaded. */
import { type ParametersAnswer, parametersAnswer, verifyAnswer } from "./answers";
import { product } from "./bytes";
import { decodeBias, type ItemBias } from "./bias";
import { list, number, object, whole } from "./check";
import { decodeTheta } from "./codec";
import { UNKNOWN } from "./items";
import { MAX_HISTORY, MAX_ITEMS } from "./limits";
import type { Model } from "./model";
import { refuse } from "./refused";

/** Bounds are learnt on exact values; encodings round. */
const SLACK = 1.01;

const origin = object({
  events: whole(0, Number.MAX_SAFE_INTEGER),
  asked: number(),
  received: number(),
  history: list(whole(UNKNOWN, MAX_ITEMS), 0, MAX_HISTORY),
});
/** What the device knows of a theta beyond the cloud's answer: what it was made from, and when, in seconds. */
export type Origin = ReturnType<typeof origin>;
/** What is kept of a theta. */
export const keptTheta = object({ answer: parametersAnswer, origin });

/** Theta as it counts at one age. */
export interface Aged {
  age: number;
  weightsTrust: number;
  opinionsTrust: number[];
  values: Float32Array;
  /** The opinions times their trust, added up, over the item indices; null without any. */
  bias: Float32Array | null;
}

/** A curve's value at an age. */
export function atAge(ages: readonly number[], curve: readonly number[], age: number): number {
  const next = ages.findIndex((one) => one > age);
  if (next < 0) return curve.at(-1)!;
  const [young, old, high, low] = [ages[next - 1]!, ages[next]!, curve[next - 1]!, curve[next]!];
  return high + ((low - high) / (old - young)) * (age - young);
}

/** A theta that passed every check. */
export interface Theta {
  readonly values: Float32Array;
  readonly opinions: readonly ItemBias[];
  readonly answer: ParametersAnswer;
  readonly origin: Origin;
  aged?: Aged;
}

/** What counts of a theta when the device has observed so many events; made once for each age. */
export function atAgeOf(theta: Theta, { manifest, zeros }: Model, events: number): Aged {
  const age = Math.max(0, events - theta.origin.events);
  const { aged, opinions } = theta;
  if (aged?.age === age) return aged;
  const { trust, vocabulary } = manifest;
  const weightsTrust = atAge(trust.ages, trust.weights, age);
  const opinionsTrust = trust.opinions.map((curve) => atAge(trust.ages, curve, age));
  if (aged?.weightsTrust === weightsTrust && aged.opinionsTrust.join() === opinionsTrust.join()) return (theta.aged = { ...aged, age });
  const bias = opinions.length ? new Float32Array(vocabulary) : null;
  opinions.forEach(({ items, values }, which) =>
    items.forEach((item, at) => (bias![item]! += Math.fround(opinionsTrust[which]!) * values[at]!)),
  );
  const same = weightsTrust === 1 || theta.values === zeros;
  const values = same ? theta.values : theta.values.map((value) => value * Math.fround(weightsTrust));
  return (theta.aged = { age, weightsTrust, opinionsTrust, values, bias });
}

/** The theta of an answer that a device may use, whenever it is; of a model, to the bearer of a token. */
export async function checkTheta({ id, manifest, zeros }: Model, token: string, device: string, answer: ParametersAnswer, origin: Origin): Promise<Theta> {
  const { model_id, scale, theta, dtype, bias } = answer;
  if (model_id !== id) refuse("wrong-model", `is for the model ${model_id.slice(0, 16)}`);
  if (!(await verifyAnswer(token, device, answer))) refuse("wrong-mac", "is changed, or another device's: its code is wrong");
  if (!theta.length && !bias.length) refuse("malformed", "is empty");
  const values = theta.length || scale.length ? decodeTheta(manifest.layout, scale, theta, dtype) : zeros;
  const most = manifest.opinions.map(({ items }) => items);
  const opinions = bias.length ? decodeBias(bias, manifest.vocabulary, most) : [];
  let at = 0;
  const bounded =
    manifest.layout.every(({ shape, bound }) => {
      const most = Math.fround(Math.fround(bound) * Math.fround(SLACK));
      return values.subarray(at, (at += product(shape))).every((value) => Math.abs(value) <= most);
    }) && opinions.every(({ values }, at) => values.every((value) => value <= manifest.opinions[at]!.bound * SLACK));
  if (!bounded) refuse("out-of-bounds", "is beyond the bundle's bounds");
  return { values, opinions, answer, origin };
}
