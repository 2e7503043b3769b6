/** When a device asks for new parameters: policies, and what they are asked with. */
import type { Profiles } from "./model";
import { invalidOption } from "./refusals";

export interface Situation {
  /** Whether there is a theta, not expired. */
  hasTheta: boolean;
  /** Events since the theta in use was made. */
  events: number;
  /** Seconds since then; infinite without a theta, or where the clock went back. */
  seconds: number;
  /** Requests sent since midnight, UTC. */
  requestsToday: number;
  /** Item indices of the events kept, oldest first, and those that theta was made from. */
  history: readonly number[];
  madeFrom: readonly number[];
  profiles: Profiles;
}

/** A policy of your own works in a `LocalDevice` alone: a function cannot be sent to a worker. */
export interface OwnPolicy {
  due(situation: Situation): boolean | Promise<boolean>;
}
export type Policy =
  | { kind: "Always" }
  | { kind: "EveryEvents"; n: number }
  | { kind: "AfterSeconds"; seconds: number }
  | { kind: "Drift"; threshold: number; decay: number }
  | { kind: "DailyBudget"; policy: Policy; n: number }
  | OwnPolicy;

/** Refuses what is no policy, or cannot work. */
export function checkPolicy(policy: Policy): void {
  const whole = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0;
  const good = (): boolean => {
    if ("due" in policy) return typeof policy.due === "function";
    switch (policy.kind) {
      case "Always":
        return true;
      case "EveryEvents":
        return whole(policy.n);
      case "AfterSeconds":
        return policy.seconds >= 0;
      case "Drift":
        // Fetched now, as there may be no network when it is needed.
        void loadDrift().catch(() => undefined);
        return policy.threshold >= 0 && policy.threshold < Infinity && policy.decay > 0 && policy.decay <= 1;
      case "DailyBudget":
        checkPolicy(policy.policy);
        return whole(policy.n);
    }
  };
  if (!policy || typeof policy !== "object" || !good()) throw invalidOption("policy", "is none that can work");
}

export const loadDrift = () => import("./drift");
