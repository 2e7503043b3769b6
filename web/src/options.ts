/** How a device is set up: checked when it is opened. */
import { DIGEST } from "./bundle";
import type { Cloud } from "./client";
import { MAX_ADDRESS, MAX_TOKEN_BYTES } from "./limits";
import type { Encoding, MetPolicy, Parts } from "./messages";
import type { EngineOptions } from "./model";
import { everyEvents } from "./policies";
import { checkPolicy, type Policy } from "./policy";
import { invalidOption } from "./refusals";

export interface PatienceConfig {
  /** Longest wait after the first failure, in seconds. */
  first: number;
  /** Longest wait while the circuit is closed, and longest Retry-After that is honoured. */
  longest: number;
  /** So many failures in a row open the circuit. */
  failures: number;
  cooldown: number;
  longestCooldown: number;
}

export interface DeviceOptions extends EngineOptions {
  /** Address of the cloud, or a `Cloud` of your own (in a `LocalDevice`); null stays offline. */
  cloud: string | Cloud | null;
  /** Address of a folder with a bundle that the page brings along; null: the first version comes from the cloud. */
  bundle: string | null;
  /** The device's access token; empty for the cloud's open mode. No text of a device shows it. */
  token: string;
  /** The id that the token was made for; null: a random one, kept with the state. */
  deviceId: string | null;
  policy: Policy;
  /** Name of what is kept in IndexedDB; null keeps everything in memory. */
  state: string | null;
  /** Public keys that may sign bundles; null: the key of the first version. */
  trusted: readonly string[] | null;
  encoding: Encoding;
  parts: Parts;
  /** Whether rankings hide what the device has met; null: as the version says. */
  met: MetPolicy | null;
  /** Ask by itself; without, `keepUp` and `refresh` do. */
  background: boolean;
  updateSeconds: number;
  /** Seconds after its expiry for which a theta is still used. */
  grace: number;
  patience: PatienceConfig;
  /** Seconds since 1970, and from 0 to 1 for the waits' jitter; in a `LocalDevice` alone. */
  clock: (() => number) | null;
  random: (() => number) | null;
}

export const PATIENCE: PatienceConfig = { first: 1, longest: 300, failures: 5, cooldown: 60, longestCooldown: 3600 };
const GRACE_SECONDS = 7 * 24 * 3600;

const DEFAULTS: DeviceOptions = {
  cloud: null,
  bundle: null,
  token: "",
  deviceId: null,
  policy: everyEvents(10),
  state: "device",
  trusted: null,
  encoding: "float16",
  parts: "both",
  met: null,
  background: true,
  updateSeconds: 3600,
  grace: GRACE_SECONDS,
  patience: PATIENCE,
  engine: "auto",
  ort: null,
  clock: null,
  random: null,
};

/** An address of a cloud, a folder or a module, without a slash at its end. */
function address(name: string, value: string, schemes = /^https?:$/): string {
  const base = globalThis.location?.href;
  const found = new URL(URL.canParse(value, base) ? value : "data:", base);
  const good = schemes.test(found.protocol) && value.length <= MAX_ADDRESS && !found.username && !found.password;
  if (!good || found.search || found.hash) throw invalidOption(name, "is no http(s) address that ends with its path");
  return found.href.replace(/\/+$/, "");
}

const isOneOf = (...values: unknown[]) => (value: unknown): boolean => values.includes(value);
const CHECKS: { [name: string]: (value: any) => boolean } = {
  token: (value) => typeof value === "string" && value.length <= MAX_TOKEN_BYTES && /^[!-~]*$/.test(value),
  deviceId: (value) => value === null || /^[A-Za-z0-9._:-]{1,128}$/.test(value),
  state: (value) => value === null || (typeof value === "string" && value !== ""),
  trusted: (value) => value === null || (Array.isArray(value) && value.every((key) => DIGEST.test(key))),
  encoding: isOneOf("float32", "float16", "int8"),
  parts: isOneOf("both", "weights", "bias"),
  met: isOneOf(null, "hide", "show"),
  engine: isOneOf("auto", "plain", "ort"),
  updateSeconds: (value) => value > 0,
  grace: (value) => value >= 0,
  patience: (value) => Object.keys(PATIENCE).every((name) => value[name] >= 0),
};

/** All options, those that are not given by their defaults; addresses in full. */
export function checkOptions(given: Partial<DeviceOptions>): DeviceOptions {
  const found: DeviceOptions = { ...DEFAULTS };
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(DEFAULTS, name)) throw invalidOption(name, "is no option of a device");
    if (value === undefined) continue;
    if (CHECKS[name]?.(value) === false) throw invalidOption(name, "cannot be what it is");
    Object.assign(found, { [name]: value });
  }
  if (typeof found.cloud === "string") found.cloud = address("cloud", found.cloud);
  if (found.bundle !== null) found.bundle = address("bundle", found.bundle);
  if (found.ort !== null) found.ort = address("ort", found.ort, /^(https?|file):$/);
  if (!found.cloud && !found.bundle) throw invalidOption("cloud", "is not named, and no bundle either");
  checkPolicy(found.policy);
  return found;
}
