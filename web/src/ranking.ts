/** Rankings of scores. */
import type { Ranked } from "./device";

export function ranked(places: Int32Array, ids: readonly string[], scores: Float32Array): Ranked[] {
  const found = new Array<Ranked>(places.length);
  for (let at = 0; at < found.length; at++) found[at] = [ids[places[at]!]!, scores[places[at]!]!];
  return found;
}

/** Places from the highest score to the lowest, equal ones in their order: sorted by some bits of the score at a time. */
export function bestFirst(places: Int32Array, scores: Float32Array): Int32Array {
  const { length } = places;
  const keys = new Uint32Array(length);
  const values = new Float32Array(keys.buffer);
  let from = new Int32Array(length);
  let to = new Int32Array(length);
  for (let at = 0; at < length; at++) {
    // No negative zero; and bits that rise as the score falls.
    values[at] = scores[places[at]!]! + 0;
    if (keys[at]! < 2 ** 31) keys[at] = ~keys[at]! & 0x7fffffff;
    from[at] = at;
  }
  const bits = length < 4096 ? 8 : 11;
  const begins = new Int32Array(2 ** bits);
  const most = begins.length - 1;
  for (let shift = 0; shift < 32; shift += bits) {
    begins.fill(0);
    for (let at = 0; at < length; at++) begins[(keys[at]! >>> shift) & most]!++;
    for (let digit = 0, begin = 0; digit <= most; digit++) {
      const count = begins[digit]!;
      begins[digit] = begin;
      begin += count;
    }
    for (let at = 0; at < length; at++) {
      const place = from[at]!;
      to[begins[(keys[place]! >>> shift) & most]!++] = place;
    }
    [from, to] = [to, from];
  }
  for (let at = 0; at < length; at++) to[at] = places[from[at]!]!;
  return to;
}

/** The places of the `wanted` highest scores, of equal ones the lowest place first; -Infinity is none. */
export function best(scores: Float32Array, wanted: number): Int32Array {
  const room = Math.min(scores.length, 2 * wanted + 64);
  const places = new Int32Array(room);
  let [kept, least] = [0, -Infinity];
  const cut = (): void => {
    places.set(bestFirst(places.subarray(0, kept), scores));
    kept = Math.min(kept, wanted);
    if (wanted && kept === wanted) least = scores[places[kept - 1]!]!;
  };
  for (let at = 0; at < scores.length; at++) {
    if (!(scores[at]! > least)) continue;
    if (kept === room) cut();
    if (scores[at]! > least) places[kept++] = at;
  }
  cut();
  return places.subarray(0, kept);
}
