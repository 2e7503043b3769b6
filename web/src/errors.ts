/** Refusals: a stable code with a page in the documentation, a message in one line, and a hint. */
export class DuetError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint = "",
  ) {
    super(message);
    this.name = "DuetError";
  }
}

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

export const invalidBundle = (message: string): DuetError =>
  new DuetError("invalid-bundle", message, "export the model again, or copy the bundle again");

export const invalidOption = (name: string, why: string): DuetError =>
  new DuetError("invalid-device-config", `${name}: ${why}`, "see the options of a device");

export const badAnswer = (why: string): DuetError =>
  new DuetError("bad-answer", `the cloud's answer ${why}`, "is this a duet cloud?");
