/** A browser as a device: ranks on its own, with parameters that a duet cloud generates for it. */
import type { DeviceOptions } from "./options";
import { type Device, openRemote } from "./remote";

export type { Change, Item, Ranked, RankOptions, Status, ThetaStatus } from "./device";
export type { Cloud, Exchange, Limit } from "./client";
export type { DeviceOptions } from "./options";
export type { Device } from "./remote";
export type { OwnPolicy, Policy, Situation } from "./policy";
export { DuetError } from "./errors";
export { afterSeconds, always, dailyBudget, drift, everyEvents } from "./policies";

/** A device that is ready to rank, in a worker of its own. For one in the page itself see `@duetgen/device/local`. */
export function openDevice(options: Partial<DeviceOptions>): Promise<Device> {
  // It starts while the options are read.
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "duet" });
  const given = { ...options };
  // A worker has the address of its script for its own: what is relative is meant from the page.
  for (const name of ["cloud", "bundle", "ort"] as const) {
    const one = given[name];
    if (typeof one === "string" && URL.canParse(one, location.href)) given[name] = new URL(one, location.href).href;
  }
  return openRemote(worker, given);
}
