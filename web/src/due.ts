/** Whether a policy wants new parameters: asked after every event, from a situation alone. */
import { loadDrift, type Policy, type Situation } from "./policy";

/** Whether to ask now. */
export async function due(policy: Policy, situation: Situation): Promise<boolean> {
  if ("due" in policy) return policy.due(situation);
  if (policy.kind === "DailyBudget") return situation.requestsToday < policy.n && due(policy.policy, situation);
  if (!situation.hasTheta) return true;
  const { events } = situation;
  switch (policy.kind) {
    case "Always":
      return events > 0;
    case "EveryEvents":
      return events >= Math.max(policy.n, 1);
    case "AfterSeconds":
      return events > 0 && situation.seconds >= policy.seconds;
    case "Drift":
      if (!situation.madeFrom.length) return true;
      return events > 0 && (await (await loadDrift()).driftOf(situation, policy.decay)) >= policy.threshold;
  }
}
