/**
 * A device in a page or a worker: keeps what it sees, ranks with its own parameters, and asks for new ones.
 * Whatever happens to the cloud, the network, the storage or a new version, it ranks with the last good theta, or with
 * theta = 0.
 */
import type { Asking, Shared } from "./asking";
import { hex } from "./bytes";
import { type Cloud, type Exchange, httpCloud } from "./client";
import { DuetError } from "./errors";
import { count, FIRST_ITEM, itemIds, LAST, UNKNOWN } from "./items";
import { MAX_LOG_EVENTS } from "./limits";
import { EventLog } from "./log";
import type { MetPolicy } from "./messages";
import type { Model } from "./model";
import { type CheckedOptions, checkOptions, type DeviceOptions } from "./options";
import type { Circuit } from "./patience";
import { checkPolicy, type Policy } from "./policy";
import { best, bestFirst, ranked } from "./ranking";
import { invalidOption } from "./refusals";
import { openState, type State, thetaKey, type Told } from "./state";
import type { Aged } from "./store";
import { openVersions } from "./versions";

/** An item with its score. */
export type Ranked = [id: string, score: number];
export interface RankOptions {
  /** `hide` leaves out what the device has met, `show` does not; by default as the device's options have it. */
  met?: MetPolicy | null;
  /** False ranks with theta = 0: what the global model thinks. */
  personal?: boolean;
}

export interface ThetaStatus {
  sequence: number;
  issued: number;
  expires: number;
  ageSeconds: number;
  ageEvents: number;
  weightsBytes: number;
  weightsTrust: number;
  biasBytes: number;
  opinionsTrust: number[];
}
/** A device, at one moment; the fields are those of the Python device, and what a page wants to show beside. */
export interface Status {
  device: string;
  modelId: string;
  name: string;
  backbone: string;
  engine: "plain" | "ort";
  previous: string | null;
  source: "theta" | "global";
  theta: ThetaStatus | null;
  events: number;
  unknownEvents: number;
  unknownCandidates: number;
  requests: number;
  requestsToday: number;
  answered: number;
  refused: Record<string, number>;
  failures: Record<string, number>;
  lastError: string;
  circuit: Circuit;
  nextTrySeconds: number;
  refusedVersions: Record<string, string>;
  diskErrors: number;
  bytesSent: number;
  bytesReceived: number;
  /** What the last theta cost, with the milliseconds that the device took to check it. */
  last: (Exchange & { sequence: number; device: number }) | null;
}
export interface Item {
  id: string;
  title: string;
}
/** What changed: events, theta, the version, or what went wrong. */
export type Change = "observed" | "theta" | "version" | "forgotten" | "failed";

export interface LocalDevice {
  /** Hears of what changed. */
  onchange(what: Change): void;
  /** Note what has just happened, oldest first: original item ids; unknown ones count too. */
  observe(...items: (string | number)[]): Promise<void>;
  /** Candidates with their scores, best first; equal scores keep their order, and unknown ids come last. */
  rank(candidates: Iterable<string | number>, options?: RankOptions): Promise<Ranked[]>;
  /** The k best items of the catalogue; of equal scores the lowest item index comes first. */
  recommend(k: number, options?: RankOptions): Promise<Ranked[]>;
  /** Theta as it counts now; null where there is none. */
  theta(): Promise<(Aged & { opinions: { name: string; items: number }[] }) | null>;
  /** Ids with titles: the catalogue of the version in use, in the order of its indices, or what it has of these ids. */
  items(wanted?: Iterable<string | number>): Promise<Item[]>;
  /** The events that are kept, oldest first. */
  events(length?: number): Promise<string[]>;
  /** How the device is doing. */
  status(): Promise<Status>;
  /** Ask by another policy from now on. */
  setPolicy(policy: Policy): Promise<void>;
  /** Ask nothing, as if there were no network; or ask again. */
  setOffline(offline: boolean): Promise<void>;
  /** There is a network again: what waits is tried at once. */
  online(): void;
  /** Ask for theta now, whatever the policy says. Whether a new one came; what the cloud asked to wait is waited for. */
  refresh(): Promise<boolean>;
  /** Do now what is due: ask for theta, look for a new version. Whether it asked. */
  keepUp(): Promise<boolean>;
  /** Look for a new version now, and adopt it if it is good. Whether the version changed. */
  update(): Promise<boolean>;
  /** Use the version before again, from now on; its id. */
  rollback(): Promise<string>;
  /** Erase what the device has seen and theta of every version; an answer that is on its way is not taken. */
  forget(): Promise<void>;
  /** Stop asking and writing; ranking goes on working. */
  close(): Promise<void>;
}

async function start(options: CheckedOptions, state: State, cloud: Cloud | null): Promise<LocalDevice> {
  // Read while the version comes: a ranking without theta does not wait for it, nor need it.
  const loading = import("./asking").catch(() => {
    throw new DuetError("cloud-unreachable", "the part of the device that asks the cloud cannot be had", "load the page again");
  });
  loading.catch(() => undefined);
  const own = await state.get("device");
  const good = typeof own === "string" && /^web-[0-9a-f]{16}$/.test(own);
  const deviceId = options.deviceId ?? (good ? own : `web-${hex(crypto.getRandomValues(new Uint8Array(8)))}`);
  const clock = options.clock ?? (() => Date.now() / 1000);
  const log = new EventLog();
  const [[events, ever], versions] = await Promise.all([state.events(log.capacity), openVersions(options, state, cloud, deviceId, clock)]);
  // Not before all is read: it would have to wait.
  if (!options.deviceId && !good) void state.put({ device: deviceId });
  log.append(events);
  log.count = Math.max(log.count, ever);
  const tally: Shared["tally"] = { refused: {}, failures: {}, lastError: "", unknownEvents: 0, unknownCandidates: 0, requests: 0, answered: 0 };
  const changed = (what: Change): void => device.onchange(what);
  const shared: Shared = { options, state, cloud, log, versions, deviceId, clock, tally, closed: false, changed };
  let asker: Asking | null = null;
  const asks = loading.then(async ({ asking }) => {
    asker = asking(shared);
    await asker.begin();
    return asker;
  });
  asks.catch(() => undefined);
  /** Now, or when it is there. */
  const tell = (work: (asker: Asking) => void): void => (asker ? work(asker) : void asks.then(work, () => undefined));

  /** What was ranked last: a page mostly ranks the same candidates again as events come. */
  let last: { model: Model; given: unknown[]; ids: string[]; index: Int32Array } | null = null;
  let window: { count: number; model: Model; index: Int32Array } | null = null;

  /** Ids with their item indices, looked up once for each list. */
  const lookUp = (model: Model, candidates: Iterable<string | number>): NonNullable<typeof last> => {
    if (last?.model === model && Array.isArray(candidates) && candidates.length === last.given.length)
      if (last.given.every((one, at) => one === candidates[at])) return last;
    const ids = itemIds(candidates);
    return (last = { model, given: Array.isArray(candidates) ? [...candidates] : ids, ids, index: model.indices(ids) });
  };
  const hides = (model: Model, met: MetPolicy | null | undefined): boolean => {
    const wanted = met ?? options.met ?? model.manifest.met;
    if (wanted !== "hide" && wanted !== "show") throw invalidOption("met is neither hide nor show");
    return wanted === "hide";
  };
  /** Scores of item indices, with theta if there is one to use: a fresh array. */
  const scoresOf = async (model: Model, index: Int32Array, personal = true): Promise<Float32Array> => {
    if (window?.count !== log.count || window.model !== model)
      window = { count: log.count, model, index: model.indices(log.last(model.manifest.window)) };
    const { index: seen } = window;
    return (personal && (await asker?.scores(seen, index))) || model.score(model.zeros, seen, index);
  };
  const erase = (): void => {
    log.clear();
    state.drop();
    versions.forget();
    tell((asker) => asker.erase());
    last = window = null;
  };
  const heard = async (told: Told): Promise<void> => {
    if (told.what === "forgotten") erase();
    else if (told.what !== "observed") await (await asks).hear(told.what);
    else if (Array.isArray(told.items)) log.append(itemIds(told.items));
    changed(told.what);
  };
  state.heard = (told) => void heard(told).catch(() => undefined);

  const device: LocalDevice = {
    onchange() {},
    theta: async () => (await asks).theta(),
    online: () => tell((asker) => asker.online()),
    refresh: async () => (await asks).refresh(),
    keepUp: async () => (await asks).keepUp(),
    update: async () => (await asks).update(),
    rollback: async () => (await asks).rollback(),
    async observe(...items) {
      const ids = itemIds(items);
      tally.unknownEvents += ids.filter((id) => versions.model.find(id) === UNKNOWN).length;
      const kept = log.append(ids);
      const written = state.append(kept, MAX_LOG_EVENTS);
      state.tell({ what: "observed", items: kept });
      tell((asker) => asker.touch());
      changed("observed");
      await written;
    },
    async rank(candidates, { met, personal } = {}) {
      const { model } = versions;
      const { ids, index } = lookUp(model, candidates);
      const hidden = hides(model, met);
      const scores = await scoresOf(model, index, personal);
      let shown = 0;
      const places = new Int32Array(index.length);
      for (let at = 0; at < index.length; at++) {
        const unknown = index[at] === UNKNOWN;
        if (unknown) {
          scores[at] = LAST;
          tally.unknownCandidates++;
        }
        if (unknown || !hidden || !log.has(ids[at]!)) places[shown++] = at;
      }
      return ranked(bestFirst(places.subarray(0, shown), scores), ids, scores);
    },
    async recommend(k, { met, personal } = {}) {
      const { model } = versions;
      const wanted = count(k);
      const hidden = hides(model, met);
      const scores = await scoresOf(model, model.catalogue, personal);
      scores.fill(-Infinity, 0, FIRST_ITEM);
      // What is unknown has the place of an item that is hidden anyway.
      if (hidden) for (const id of log.met()) scores[model.find(id)] = -Infinity;
      return ranked(best(scores, wanted), model.ids, scores);
    },
    async items(wanted) {
      const { catalogue, ids, indices, titles } = versions.model;
      const places = wanted ? indices(itemIds(wanted)) : catalogue;
      return Array.from(places.filter((place) => place >= FIRST_ITEM), (place) => ({ id: ids[place]!, title: titles[place] ?? "" }));
    },
    events: async (length = MAX_LOG_EVENTS) => log.last(length),
    async status() {
      const asked = (await asks).status();
      const { engine, id, manifest } = versions.model;
      return {
        device: deviceId,
        modelId: id,
        name: manifest.name,
        backbone: manifest.backbone,
        engine: engine.name,
        events: log.count,
        ...tally,
        refused: { ...tally.refused },
        failures: { ...tally.failures },
        diskErrors: state.errors,
        bytesSent: cloud?.traffic?.sent ?? 0,
        bytesReceived: cloud?.traffic?.received ?? 0,
        ...asked,
      };
    },
    async setPolicy(policy) {
      options.policy = checkPolicy(policy);
      tell((asker) => asker.touch());
    },
    async setOffline(offline) {
      cloud?.setOffline?.(offline);
      if (!offline) device.online();
    },
    async forget() {
      erase();
      const gone = await Promise.all([state.clearEvents(), state.remove(thetaKey())]);
      state.tell({ what: "forgotten" });
      changed("forgotten");
      if (options.state !== null && gone.includes(false))
        throw new DuetError("not-forgotten", "all is forgotten but what the browser does not let go of", "forget again, or clear this page's data");
    },
    async close() {
      shared.closed = true;
      cloud?.close();
      asker?.stop();
      await versions.flush();
      await state.close();
    },
  };
  if (await state.get(thetaKey(versions.model.id))) await asks.catch(() => undefined);
  return device;
}

export const LocalDevice = {
  /** A device that is ready to rank. */
  async open(given: Partial<DeviceOptions>): Promise<LocalDevice> {
    const options = checkOptions(given);
    const state = await openState(options.state);
    const cloud = typeof options.cloud === "string" ? httpCloud(options.cloud, options.token) : options.cloud;
    try {
      return await start(options, state, cloud);
    } catch (cause) {
      cloud?.close();
      await state.close();
      throw cause;
    }
  },
};
