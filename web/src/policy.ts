/** When a device asks for new parameters: asked after every event, from a situation alone. */
import { invalidOption } from "./errors";
import type { Profiles } from "./model";

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
  if (typeof policy !== "object" || policy === null) throw invalidOption("policy", "is none");
  if ("due" in policy ? typeof policy.due === "function" : policy.kind === "Always") return;
  const good =
    "kind" in policy &&
    ((policy.kind === "EveryEvents" && whole(policy.n)) ||
      (policy.kind === "AfterSeconds" && policy.seconds >= 0) ||
      (policy.kind === "Drift" && policy.threshold >= 0 && policy.threshold < Infinity && policy.decay > 0 && policy.decay <= 1) ||
      (policy.kind === "DailyBudget" && whole(policy.n)));
  if (!good) throw invalidOption("policy", "is none that can work");
  if (policy.kind === "DailyBudget") checkPolicy(policy.policy);
}

/** The decayed mean of the profiles of some items, oldest first. */
async function mean(profiles: Profiles, items: readonly number[], decay: number): Promise<number[]> {
  const found = await profiles(items);
  const weights = found.map((_, at) => decay ** (found.length - 1 - at));
  const total = weights.reduce((one, other) => one + other, 0);
  return [...found[0]!].map((_, one) => found.reduce((sum, profile, at) => sum + weights[at]! * profile[one]!, 0) / total);
}

/** How far the behaviour has moved, in standard deviations of the catalogue. */
export async function driftOf(situation: Situation, decay: number): Promise<number> {
  const now = await mean(situation.profiles, situation.history, decay);
  const then = await mean(situation.profiles, situation.madeFrom, decay);
  return Math.sqrt(now.reduce((sum, value, at) => sum + (value - then[at]!) ** 2, 0) / now.length);
}

/** Whether to ask now. */
export async function due(policy: Policy, situation: Situation): Promise<boolean> {
  if ("due" in policy) return policy.due(situation);
  if (policy.kind === "DailyBudget") return situation.requestsToday < policy.n && due(policy.policy, situation);
  if (!situation.hasTheta) return true;
  switch (policy.kind) {
    case "Always":
      return situation.events > 0;
    case "EveryEvents":
      return situation.events >= Math.max(policy.n, 1);
    case "AfterSeconds":
      return situation.events > 0 && situation.seconds >= policy.seconds;
    case "Drift":
      return (
        !situation.madeFrom.length ||
        (situation.events > 0 && (await driftOf(situation, policy.decay)) >= policy.threshold)
      );
  }
}
