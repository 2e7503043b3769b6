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

export const trust: Check<Trust> = (value, name) => {
  const found = fields(value, name);
  const { ages, weights, opinions } = found;
  const unsound =
    ages[0] ||
    ages.some((age, place) => age <= ages[place - 1]!) ||
    [weights, ...opinions].some((one) => one.length !== ages.length || one.some((value, place) => value > one[place - 1]!));
  if (unsound) throw new TypeError("trust has ages that do not ascend from 0, or a curve that does not fit them, or increases");
  return found;
};
