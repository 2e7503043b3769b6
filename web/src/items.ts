/** What an id is: text, or a whole number that stands for its digits; the same in every call. */
import { utf8 } from "./bytes";
import { DuetError } from "./errors";

export const PADDING = 0;
export const UNKNOWN = 1;
export const FIRST_ITEM = 2;
/** What an unknown item scores where it is ranked: the lowest number of float32. */
export const LAST = -3.4028234663852886e38;

const invalid = (why: string): DuetError => new DuetError("invalid-items", why, "give ids as text or whole numbers");

/** The id that a value stands for. */
export function itemId(value: unknown): string {
  if (typeof value === "string" && !/\p{Surrogate}/u.test(value)) return value;
  if (typeof value === "bigint" || (Number.isInteger(value) && Math.abs(value as number) <= 2 ** 53)) return String(value);
  throw invalid("an id is no text, no whole number, or has a lone surrogate");
}

export function itemIds(values: unknown): string[] {
  if (!values || typeof values !== "object" || !(Symbol.iterator in values)) throw invalid("there is no list of ids");
  return Array.from(values as Iterable<unknown>, itemId);
}

export function count(k: unknown): number {
  if (typeof k !== "number" || !Number.isInteger(k)) throw invalid("k is no whole number");
  return Math.max(0, k);
}

/** Bytes of an id in UTF-8. */
export const size = (id: string): number => utf8(id).length;
