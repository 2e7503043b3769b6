/** Waits after failures: jittered, longer each time; after some in a row the circuit opens, and one try decides. */
import type { PatienceConfig } from "./options";

export type Circuit = "closed" | "open" | "half-open";

/** Times are seconds of a clock that never goes back. */
export interface Patience {
  failing(): boolean;
  circuit(now: number): Circuit;
  /** Seconds until the next try; one that a person insists on waits only for what the cloud asked. */
  wait(now: number, insisted?: boolean): number;
  succeeded(): void;
  /** There may be a way again: waits for nothing but what the cloud asked. */
  hurry(): void;
  failed(now: number, retryAfter?: number | null): void;
}

export function patienceOf(config: PatienceConfig, random: () => number): Patience {
  let failures = 0;
  let notBefore = -Infinity;
  /** Until when the cloud itself asked to wait. */
  let asked = -Infinity;
  const between = (low: number, high: number): number => low + (high - low) * random();
  const power = (failures: number): number => 2 ** Math.min(failures, 60);
  return {
    failing: () => failures > 0,
    circuit: (now) => (failures < config.failures ? "closed" : now < notBefore ? "open" : "half-open"),
    wait: (now, insisted) => Math.max(0, (insisted ? asked : notBefore) - now),
    succeeded() {
      failures = 0;
      notBefore = asked = -Infinity;
    },
    hurry() {
      notBefore = asked;
    },
    failed(now, retryAfter = null) {
      const opened = ++failures - config.failures;
      let wait =
        opened < 0
          ? between(0, Math.min(config.longest, config.first * power(failures - 1)))
          : Math.min(config.longestCooldown, config.cooldown * power(opened)) * between(0.5, 1);
      if (retryAfter !== null) {
        const told = Math.min(Math.max(retryAfter, 0), config.longest);
        asked = now + told;
        // Spread over a tenth more, so that those who were told the same do not return in one moment.
        wait = Math.max(wait, told * between(1, 1.1));
      }
      notBefore = now + wait;
    },
  };
}
