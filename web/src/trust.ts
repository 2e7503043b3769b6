/** How much each part of theta counts at its age: curves, linear between ages and level beyond the last. */
import { type Check, list, number, object, whole } from "./check";
import { MAX_AGE, MAX_OPINIONS, MAX_TRUST_AGES } from "./limits";

const curve = list(number(0, 100), 1, MAX_TRUST_AGES);
const fields = object({
  ages: list(whole(0, MAX_AGE), 1, MAX_TRUST_AGES),
  weights: curve,
  opinions: list(curve, 0, MAX_OPINIONS),
});
export type Trust = ReturnType<typeof fields>;

export const trust: Check<Trust> = (value, at) => {
  const found = fields(value, at);
  const { ages } = found;
  if (ages[0] !== 0 || ages.some((age, place) => place && age <= ages[place - 1]!))
    throw new TypeError(`${at}: the ages of trust do not ascend from 0`);
  for (const one of [found.weights, ...found.opinions])
    if (one.length !== ages.length || one.some((value, place) => place && value > one[place - 1]!))
      throw new TypeError(`${at}: a curve of trust does not fit its ages, or increases`);
  return found;
};
