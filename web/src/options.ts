/** How a device is set up: checked when it is opened. */
import { type Check, list, number, object, oneOf, or, string, whole } from "./check";
import type { Cloud } from "./client";
import { MAX_ADDRESS, MAX_TOKEN_BYTES } from "./limits";
import { DIGEST, type Encoding, encoding, type MetPolicy, met, type Parts, parts } from "./messages";
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
  patience: Partial<PatienceConfig>;
  /** Seconds since 1970, and from 0 to 1 for the waits' jitter; in a `LocalDevice` alone. */
  clock: (() => number) | null;
  random: (() => number) | null;
}

const GRACE_SECONDS = 7 * 24 * 3600;

/** Options with nothing left out. */
export interface CheckedOptions extends DeviceOptions {
  patience: PatienceConfig;
}

/** An address of a cloud, a folder or a module, without a slash at its end. */
const address =
  (schemes: RegExp): Check<string> =>
  (value, name) => {
    const base = globalThis.location?.href;
    const found = new URL(URL.canParse(value as string, base) ? (value as string) : "data:", base);
    const good = schemes.test(found.protocol) && found.href.length <= MAX_ADDRESS && !found.username && !found.password;
    if (!good || found.search || found.hash) throw new TypeError(`${name} is no http(s) address that ends with its path`);
    return found.href.replace(/\/+$/, "");
  };
const http = address(/^https?:$/);
const orNull =
  <T>(kind: Check<T>): Check<T | null> =>
  (value, name) =>
    value == null ? null : kind(value, name);
const least0 = number(0);
const given: Check<any> = (value) => value;
const patience = object({
  first: or(least0, 1),
  longest: or(least0, 300),
  failures: or(whole(1, Infinity), 5),
  cooldown: or(least0, 60),
  longestCooldown: or(least0, 3600),
});
export const PATIENCE: PatienceConfig = patience({}, "");

const fields = object<{ [K in keyof CheckedOptions]: Check<CheckedOptions[K]> }>({
  cloud: orNull((value, name) => (typeof value === "string" ? http : given)(value, name)),
  bundle: orNull(http),
  token: or(string(MAX_TOKEN_BYTES, /^[!-~]*$/), ""),
  deviceId: orNull(string(128, /^[A-Za-z0-9._:-]+$/)),
  policy: or(checkPolicy, everyEvents(10)),
  state: or(orNull(string(Infinity, /./s)), "device"),
  trusted: orNull(list(DIGEST)),
  encoding: or(encoding, "float16"),
  parts: or(parts, "both"),
  met: orNull(met),
  background: or(oneOf(true, false), true),
  updateSeconds: or(number(Number.MIN_VALUE), 3600),
  grace: or(least0, GRACE_SECONDS),
  patience: or(patience, PATIENCE),
  engine: or(oneOf("auto", "plain", "ort"), "auto"),
  ort: orNull(address(/^(https?|file):$/)),
  clock: orNull(given),
  random: orNull(given),
});

/** All options, those that are not given by their defaults; addresses in full. */
export function checkOptions(given: Partial<DeviceOptions>): CheckedOptions {
  try {
    const found = fields(given, "it");
    if (found.cloud || found.bundle) return found;
    throw new TypeError("neither cloud nor bundle is named");
  } catch (cause) {
    throw invalidOption((cause as Error).message);
  }
}
