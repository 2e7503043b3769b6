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
