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

const whole = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0;
const loadDrift = () => import("./drift");

/** Of each kind: whether one can work, and whether it wants a new theta where there is one. */
const KINDS: Record<string, [good: (policy: any) => unknown, due: (policy: any, situation: Situation) => unknown]> = {
  Always: [() => true, (_, { events }) => events],
  EveryEvents: [({ n }) => whole(n), ({ n }, { events }) => events >= Math.max(n, 1)],
  AfterSeconds: [(policy) => policy.seconds >= 0, (policy, { events, seconds }) => events && seconds >= policy.seconds],
  Drift: [
    ({ threshold, decay }) => {
      // Fetched now, as there may be no network when it is needed.
      loadDrift().catch(() => undefined);
      return threshold >= 0 && threshold < Infinity && decay > 0 && decay <= 1;
    },
    async ({ threshold, decay }, situation) =>
      !situation.madeFrom.length || (situation.events && (await (await loadDrift()).driftOf(situation, decay)) >= threshold),
  ],
  DailyBudget: [({ n, policy }) => whole(n) && checkPolicy(policy), () => false],
};

/** Refuses what is no policy, or cannot work. */
export function checkPolicy(policy: any): Policy {
  if (policy && (policy.due ? typeof policy.due === "function" : KINDS[policy.kind]?.[0]?.(policy))) return policy;
  throw invalidOption("policy is none that can work");
}

/** Whether to ask now. */
export async function due(policy: Policy, situation: Situation): Promise<boolean> {
  if ("due" in policy && policy.due) return policy.due(situation);
  const named = policy as Exclude<Policy, OwnPolicy>;
  if (named.kind === "DailyBudget") return situation.requestsToday < named.n && due(named.policy, situation);
  return !situation.hasTheta || !!(await KINDS[named.kind]![1](named, situation));
}
