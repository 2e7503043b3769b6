/** A device in the page itself, or in a worker of your own: for clouds, clocks and policies that cannot be sent to a worker. */
export type { Change, Item, Ranked, RankOptions, Status, ThetaStatus } from "./device";
export type { Cloud, Exchange, Limit } from "./client";
export type { DeviceOptions } from "./options";
export { LocalDevice } from "./device";
export { DuetError } from "./errors";
export { afterSeconds, always, dailyBudget, drift, everyEvents } from "./policies";
export { CloudRefusedError } from "./cloud-refusal";
export { RefusedParametersError } from "./refused";
