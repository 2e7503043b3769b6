/** What a device counts, for its status. */
export class Tally {
  readonly refused: Record<string, number> = {};
  readonly failures: Record<string, number> = {};
  lastError = "";
  unknownEvents = 0;
  unknownCandidates = 0;
  requests = 0;
  answered = 0;

  refuse(reason: string): void {
    this.refused[reason] = (this.refused[reason] ?? 0) + 1;
  }

  fail(code: string, cause: unknown): void {
    this.failures[code] = (this.failures[code] ?? 0) + 1;
    this.lastError = cause instanceof Error ? cause.message : String(cause);
  }
}
