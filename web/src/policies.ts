/** The policies by name, for a page; what they decide is in `policy`. */
import type { Policy } from "./policy";

/** Ask after every event: the best theta, the most requests. */
export const always = (): Policy => ({ kind: "Always" });
/** Ask after every `n` events. */
export const everyEvents = (n = 10): Policy => ({ kind: "EveryEvents", n });
/** Ask at the first event that comes so many seconds or more after theta was made. */
export const afterSeconds = (seconds = 3600): Policy => ({ kind: "AfterSeconds", seconds });
/** Ask when the recent behaviour is no longer that which theta was made from. */
export const drift = (threshold = 0.2, decay = 0.9): Policy => ({ kind: "Drift", threshold, decay });
/** Another policy, with at most `n` requests a day (UTC), retries included. */
export const dailyBudget = (policy: Policy, n = 24): Policy => ({ kind: "DailyBudget", policy, n });
