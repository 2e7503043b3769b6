/** What cloud and device say to each other. */
import { text } from "./bytes";
import { type Check, object, oneOf, string } from "./check";
import { badAnswer } from "./refusals";

export type Encoding = "float32" | "float16" | "int8";
export type Parts = "both" | "weights" | "bias";
/** Whether items that a device has met are hidden from its rankings. */
export type MetPolicy = "hide" | "show";

export const encoding = oneOf<Encoding>("float32", "float16", "int8");
export const parts = oneOf<Parts>("both", "weights", "bias");
export const met = oneOf<MetPolicy>("hide", "show");
/** A SHA-256, or a key, in hexadecimal. */
export const DIGEST = string(64, /^[0-9a-f]{64}$/);

export interface ParametersRequest {
  model_id: string;
  device: string;
  history: number[];
  dtype: Encoding;
  age_ms: number | null;
  parts: Parts;
}

export interface ModelsAnswer {
  latest: string;
}
export const modelsAnswer: Check<ModelsAnswer> = object({ latest: DIGEST }, true);

/** What is read of a manifest to know its version. */
export const named = object({ model_id: DIGEST }, true);

const parse = (content: Uint8Array): unknown => JSON.parse(text(content));

/** A message of its kind, from JSON, or as it is decoded. */
export function message<T>(content: Uint8Array, kind: Check<T>, decode = parse): T {
  try {
    return kind(decode(content), "it");
  } catch (cause) {
    throw badAnswer(`cannot be read: ${(cause as Error).message}`);
  }
}
