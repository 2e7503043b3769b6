/**
 * A device in a page or a worker: keeps what it sees, ranks with its own parameters, and asks for new ones.
 * Whatever happens to the cloud, the network, the storage or a new version, it ranks with the last good theta, or with
 * theta = 0.
 */
import { Asking, type Shared } from "./asking";
import { hex } from "./bytes";
import { type Cloud, type Exchange, HttpCloud } from "./client";
import { DuetError } from "./errors";
import { count, FIRST_ITEM, itemIds, LAST, UNKNOWN } from "./items";
import { MAX_LOG_EVENTS } from "./limits";
import { EventLog } from "./log";
import type { MetPolicy } from "./messages";
import type { Model } from "./model";
import { checkOptions, type DeviceOptions } from "./options";
import type { Circuit } from "./patience";
import { checkPolicy, type Policy } from "./policy";
import { best, bestFirst, ranked } from "./ranking";
import { invalidOption } from "./refusals";
import { State, type Told } from "./state";
import type { Aged } from "./store";
import { Tally } from "./tally";
import { Versions } from "./versions";

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

export class LocalDevice {
  /** Hears of what changed. */
  onchange: (what: Change) => void = () => undefined;
  private readonly asking: Asking;
  /** What was ranked last: a page mostly ranks the same candidates again as events come. */
  private lastCandidates: { model: Model; given: unknown[]; ids: string[]; index: Int32Array } | null = null;
  private window: { count: number; model: Model; index: Int32Array } | null = null;
  private readonly shared: Shared;

  private constructor(shared: Omit<Shared, "changed">) {
    this.shared = Object.assign(shared, { changed: (what: Change) => this.onchange(what) });
    this.asking = new Asking(this.shared);
    shared.state.heard = (told) => void this.hear(told).catch(() => undefined);
  }

  /** A device that is ready to rank. */
  static async open(given: Partial<DeviceOptions>): Promise<LocalDevice> {
    const options = checkOptions(given);
    const state = await State.open(options.state);
    const cloud = typeof options.cloud === "string" ? new HttpCloud(options.cloud, options.token) : options.cloud;
    try {
      return await LocalDevice.begin(options, state, cloud);
    } catch (cause) {
      cloud?.close();
      await state.close();
      throw cause;
    }
  }

  private static async begin(options: DeviceOptions, state: State, cloud: Cloud | null): Promise<LocalDevice> {
    const kept = await state.get("device");
    const fresh = (): string => `web-${hex(crypto.getRandomValues(new Uint8Array(8)))}`;
    const good = typeof kept === "string" && /^web-[0-9a-f]{16}$/.test(kept);
    const deviceId = options.deviceId ?? (good ? kept : fresh());
    const versions = new Versions(options, state, cloud, deviceId);
    const log = new EventLog();
    const [[items, count]] = await Promise.all([state.events(log.capacity), versions.begin()]);
    // Not before all is read: it would have to wait.
    if (!options.deviceId && !good) void state.set("device", deviceId);
    log.append(items);
    log.count = Math.max(log.count, count);
    const clock = options.clock ?? (() => Date.now() / 1000);
    const device = new LocalDevice({ options, state, cloud, log, versions, deviceId, clock, tally: new Tally(), closed: false });
    await device.asking.begin();
    return device;
  }

  // What an application asks.

  /** Note what has just happened, oldest first: original item ids; unknown ones count too. */
  async observe(...items: (string | number)[]): Promise<void> {
    const ids = itemIds(items);
    const { log, state, tally, versions } = this.shared;
    tally.unknownEvents += ids.filter((id) => versions.model.find(id) === UNKNOWN).length;
    const kept = log.append(ids);
    const written = state.append(kept, MAX_LOG_EVENTS);
    state.tell({ what: "observed", items: kept });
    this.asking.touch();
    this.onchange("observed");
    await written;
  }

  /** Candidates with their scores, best first; equal scores keep their order, and unknown ids come last. */
  async rank(candidates: Iterable<string | number>, options: RankOptions = {}): Promise<Ranked[]> {
    const { log, tally, versions } = this.shared;
    const { model } = versions;
    const { ids, index } = this.candidates(model, candidates);
    const hides = this.hides(model, options.met);
    const scores = await this.scores(model, index, options.personal);
    let shown = 0;
    const places = new Int32Array(index.length);
    for (let at = 0; at < index.length; at++) {
      const unknown = index[at] === UNKNOWN;
      if (unknown) {
        scores[at] = LAST;
        tally.unknownCandidates++;
      }
      if (unknown || !hides || !log.has(ids[at]!)) places[shown++] = at;
    }
    return ranked(bestFirst(places.subarray(0, shown), scores), ids, scores);
  }

  /** Ids with their item indices, looked up once for each list. */
  private candidates(model: Model, candidates: Iterable<string | number>): { ids: string[]; index: Int32Array } {
    const held = this.lastCandidates;
    if (held?.model === model && Array.isArray(candidates) && candidates.length === held.given.length)
      if (held.given.every((one, at) => one === candidates[at])) return held;
    const ids = itemIds(candidates);
    const given = Array.isArray(candidates) ? [...(candidates as unknown[])] : ids;
    const found = { model, given, ids, index: model.indices(ids) };
    this.lastCandidates = found;
    return found;
  }

  /** The k best items of the catalogue; of equal scores the lowest item index comes first. */
  async recommend(k: number, options: RankOptions = {}): Promise<Ranked[]> {
    const { log, versions } = this.shared;
    const { model } = versions;
    const wanted = count(k);
    const hides = this.hides(model, options.met);
    const scores = await this.scores(model, model.catalogue, options.personal);
    scores.fill(-Infinity, 0, FIRST_ITEM);
    if (hides)
      for (const id of log.met()) {
        const item = model.find(id);
        if (item >= FIRST_ITEM) scores[item] = -Infinity;
      }
    return ranked(best(scores, wanted), model.bundle.ids, scores);
  }

  private hides(model: Model, met: MetPolicy | null | undefined): boolean {
    if (met != null && met !== "hide" && met !== "show") throw invalidOption("met", "is neither hide nor show");
    return (met ?? this.shared.options.met ?? model.manifest.met) === "hide";
  }

  /** Scores of item indices, with theta if there is one to use: a fresh array. */
  private async scores(model: Model, index: Int32Array, personal = true): Promise<Float32Array> {
    const { log } = this.shared;
    if (this.window?.count !== log.count || this.window.model !== model)
      this.window = { count: log.count, model, index: model.indices(log.last(model.manifest.window)) };
    const window = this.window.index;
    return (personal && (await this.asking.scores(window, index))) || model.score(model.zeros, window, index);
  }

  /** Theta as it counts now; null where there is none. */
  async theta(): Promise<(Aged & { opinions: { name: string; items: number }[] }) | null> {
    return this.asking.theta();
  }

  /** Ids with titles: the catalogue of the version in use, in the order of its indices, or what it has of these ids. */
  async items(wanted?: Iterable<string | number>): Promise<Item[]> {
    const { model } = this.shared.versions;
    const { ids, titles } = model.bundle;
    const places = wanted ? model.indices(itemIds(wanted)) : model.catalogue;
    return Array.from(places.filter((place) => place >= FIRST_ITEM), (place) => ({ id: ids[place]!, title: titles[place] ?? "" }));
  }

  /** The events that are kept, oldest first. */
  async events(length = MAX_LOG_EVENTS): Promise<string[]> {
    return this.shared.log.last(length);
  }

  /** How the device is doing. */
  async status(): Promise<Status> {
    const { cloud, deviceId, log, state, tally, versions } = this.shared;
    const { model } = versions;
    const traffic = cloud?.traffic;
    return {
      device: deviceId,
      modelId: model.id,
      name: model.manifest.name,
      backbone: model.manifest.backbone,
      engine: model.engine.name,
      events: log.count,
      ...tally,
      refused: { ...tally.refused },
      failures: { ...tally.failures },
      diskErrors: state.errors,
      bytesSent: traffic?.sent ?? 0,
      bytesReceived: traffic?.received ?? 0,
      ...this.asking.status(),
    };
  }

  /** Ask by another policy from now on. */
  async setPolicy(policy: Policy): Promise<void> {
    checkPolicy(policy);
    this.shared.options.policy = policy;
    this.asking.touch();
  }

  /** Ask nothing, as if there were no network; or ask again. */
  async setOffline(offline: boolean): Promise<void> {
    const { cloud } = this.shared;
    if (cloud instanceof HttpCloud) cloud.offline = offline;
    if (!offline) this.online();
  }

  /** There is a network again: what waits is tried at once. */
  online(): void {
    this.asking.online();
  }

  /** Ask for theta now, whatever the policy says. Whether a new one came; what the cloud asked to wait is waited for. */
  async refresh(): Promise<boolean> {
    return this.asking.refresh();
  }

  /** Do now what is due: ask for theta, look for a new version. Whether it asked. */
  async keepUp(): Promise<boolean> {
    return this.asking.keepUp();
  }

  /** Look for a new version now, and adopt it if it is good. Whether the version changed. */
  async update(): Promise<boolean> {
    return this.asking.update();
  }

  /** Use the version before again, from now on; its id. */
  async rollback(): Promise<string> {
    return this.asking.rollback();
  }

  /** Erase what the device has seen and theta of every version; an answer that is on its way is not taken. */
  async forget(): Promise<void> {
    const { options, state } = this.shared;
    this.erase();
    const gone = await Promise.all([state.clearEvents(), state.delete("theta/")]);
    state.tell({ what: "forgotten" });
    this.onchange("forgotten");
    if (options.state !== null && gone.includes(false))
      throw new DuetError("not-forgotten", "all is forgotten but what the browser does not let go of", "forget again, or clear this page's data");
  }

  private erase(): void {
    const { log, state, versions } = this.shared;
    log.clear();
    state.drop();
    versions.forget();
    this.asking.forget();
    this.lastCandidates = this.window = null;
  }

  private async hear(told: Told): Promise<void> {
    if (told.what === "forgotten") this.erase();
    else if (told.what !== "observed") await this.asking.hear(told.what);
    else if (Array.isArray(told.items)) this.shared.log.append(itemIds(told.items));
    this.onchange(told.what);
  }

  /** Stop asking and writing; ranking goes on working. */
  async close(): Promise<void> {
    const { cloud, state } = this.shared;
    this.shared.closed = true;
    cloud?.close();
    await this.asking.stop();
    await state.close();
  }
}
