/** What the cloud refuses, in its own words. */
import { object, string } from "./check";
import { DuetError } from "./errors";
import { MAX_TOLD } from "./limits";
import { message } from "./messages";

const errorAnswer = object({ code: string(), message: string(), hint: string() }, true);

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

/** Seconds of a Retry-After header, a number or a date. */
export function retryAfter(value: string | null): number | null {
  if (!value) return null;
  const seconds = Number(value);
  const found = Number.isNaN(seconds) ? (Date.parse(value) - Date.now()) / 1000 : seconds;
  return Number.isFinite(found) ? Math.max(0, found) : null;
}

/** A text of somebody else's, fit to be shown. */
const told = (text: string, secret: string): string => {
  const shown = text.replace(/\p{C}+/gu, " ");
  return (secret ? shown.replaceAll(secret, "…") : shown).slice(0, MAX_TOLD);
};

export function refusalOf({ status, headers }: Response, content: Uint8Array, token: string, decode?: (content: Uint8Array) => unknown): CloudRefusedError {
  let [code, why, hint] = ["", `the cloud answers ${status}`, "see the cloud's log"];
  try {
    const said = message(content, errorAnswer, decode);
    [code, why, hint] = [told(said.code, token), `${why}: ${told(said.message, token)}`, told(said.hint, token)];
  } catch {
    // Something on the way answers in words of its own.
  }
  return new CloudRefusedError(status, code, why, hint, retryAfter(headers.get("retry-after")));
}
