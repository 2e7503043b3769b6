/** Parameters that a device must not use. */
import { DuetError } from "./errors";

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

/** A theta that this device must not use; `reason` says which check it failed. */
export class RefusedParametersError extends DuetError {
  constructor(
    readonly reason: Reason,
    message: string,
  ) {
    super("invalid-parameters", message, "the device goes on with what it has");
  }
}

export const refuse = (reason: Reason, why: string): never => {
  throw new RefusedParametersError(reason, `theta ${why}`);
};
