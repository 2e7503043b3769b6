/** Refusals of the cloud, and of what it sends: a page hears of them as codes, counted. */
import { DuetError } from "./errors";

/** A theta that this device must not use; `reason` says which check it failed. */
export class RefusedParametersError extends DuetError {
  constructor(
    readonly reason: Reason,
    message: string,
  ) {
    super("invalid-parameters", message, "the device goes on with what it has");
  }
}

/** The cloud answers with a refusal. */
export class CloudRefusedError extends DuetError {
  constructor(
    readonly status: number,
    /** The code that the cloud gave, or an empty text. */
    readonly said: string,
    message: string,
    hint: string,
    readonly retryAfter: number | null,
  ) {
    super("cloud-refused", message, hint);
  }
}

export type Reason =
  | "wrong-model"
  | "wrong-mac"
  | "malformed"
  | "not-finite"
  | "out-of-bounds"
  | "from-future"
  | "expired"
  | "older"
  | "forgotten";
