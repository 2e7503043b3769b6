/** What cloud and device say to each other. */
import { bytes, type Check, list, object, oneOf, string, whole } from "./check";
import { badAnswer } from "./errors";
import { decode } from "./msgpack";

export type Encoding = "float32" | "float16" | "int8";
export type Parts = "both" | "weights" | "bias";
/** Whether items that a device has met are hidden from its rankings. */
export type MetPolicy = "hide" | "show";

export interface ParametersRequest {
  model_id: string;
  device: string;
  history: number[];
  dtype: Encoding;
  age_ms: number | null;
  parts: Parts;
}

const time = whole(0, Number.MAX_SAFE_INTEGER);

const answer = object(
  {
    model_id: string(64),
    sequence: time,
    issued: time,
    expires: time,
    dtype: oneOf<Encoding>("float32", "float16", "int8"),
    scale: bytes,
    theta: bytes,
    bias: bytes,
    mac: bytes,
  },
  {},
  true,
);
/** A device's theta, as the cloud sends it. */
export type ParametersAnswer = ReturnType<typeof answer>;
export const parametersAnswer: Check<ParametersAnswer> = answer;

export interface ModelsAnswer {
  latest: string;
}
export const modelsAnswer: Check<ModelsAnswer> = object({ latest: string(64) }, {}, true);

export const errorAnswer = object({ code: string(), message: string(), hint: string() }, {}, true);

/** A message of its kind, from msgpack. */
export function message<T>(content: Uint8Array, kind: Check<T>): T {
  try {
    return kind(decode(content), "");
  } catch (cause) {
    throw badAnswer(`cannot be read: ${(cause as Error).message}`);
  }
}

export const strings = list(string());
