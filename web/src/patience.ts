/** Waits after failures: jittered, longer each time; after some in a row the circuit opens, and one try decides. */
import { PATIENCE, type PatienceConfig } from "./options";

export type Circuit = "closed" | "open" | "half-open";

/** Times are seconds of a clock that never goes back. */
export class Patience {
  failures = 0;
  private notBefore = -Infinity;
  /** Until when the cloud itself asked to wait. */
  private asked = -Infinity;

  constructor(
    private readonly config: PatienceConfig = PATIENCE,
    private readonly random: () => number = Math.random,
  ) {}

  circuit(now: number): Circuit {
    if (this.failures < this.config.failures) return "closed";
    return now < this.notBefore ? "open" : "half-open";
  }

  /** Seconds until the next try; one that a person insists on waits only for what the cloud asked. */
  wait(now: number, insisted = false): number {
    return Math.max(0, (insisted ? this.asked : this.notBefore) - now);
  }

  succeeded(): void {
    this.failures = 0;
    this.notBefore = this.asked = -Infinity;
  }

  failed(now: number, retryAfter: number | null = null): void {
    const { config } = this;
    const between = (low: number, high: number): number => low + (high - low) * this.random();
    this.failures++;
    const opened = this.failures - config.failures;
    let wait =
      opened < 0
        ? between(0, Math.min(config.longest, config.first * 2 ** Math.min(this.failures - 1, 60)))
        : Math.min(config.longestCooldown, config.cooldown * 2 ** Math.min(opened, 60)) * between(0.5, 1);
    if (retryAfter !== null) {
      const asked = Math.min(Math.max(retryAfter, 0), config.longest);
      this.asked = now + asked;
      // Spread over a tenth more, so that those who were told the same do not return in one moment.
      wait = Math.max(wait, asked * between(1, 1.1));
    }
    this.notBefore = now + wait;
  }
}
