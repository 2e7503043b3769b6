/**
 * A device in a page or a worker: keeps what it sees, ranks with its own parameters, and asks for new ones by itself.
 * Whatever happens to the cloud, the network, the storage or a new version, it ranks with the last good theta, or with
 * theta = 0.
 */
import { PAIR_BYTES } from "./bias";
import { hex } from "./bytes";
import { type Cloud, type Exchange, HttpCloud } from "./client";
import { answerKey } from "./crypto";
import { DuetError, invalidOption } from "./errors";
import { count, FIRST_ITEM, itemIds, LAST, UNKNOWN } from "./items";
import { ANSWER_SLACK, MAX_LOG_EVENTS } from "./limits";
import { EventLog } from "./log";
import type { MetPolicy } from "./messages";
import type { Model } from "./model";
import { checkOptions, type DeviceOptions } from "./options";
import { type Circuit, Patience } from "./patience";
import { due, type Policy, checkPolicy } from "./policy";
import { CloudRefusedError, RefusedParametersError } from "./refusals";
import { State, type Told } from "./state";
import { type Aged, type Origin, ParameterStore } from "./store";
import { Versions } from "./updates";

const DAY = 86_400;
/** The longest that a timer waits, in seconds. */
const LONGEST = 2 ** 31 / 1000 - 1;

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

interface Runtime {
  model: Model;
  store: ParameterStore;
}

export class LocalDevice {
  /** Hears of what changed. */
  onchange: (what: Change) => void = () => undefined;
  private readonly log = new EventLog();
  private readonly patience: Patience;
  private readonly updatePatience: Patience;
  private readonly clock: () => number;
  private readonly counts = { refused: {} as Record<string, number>, failures: {} as Record<string, number>, lastError: "" };
  private readonly totals = { unknownEvents: 0, unknownCandidates: 0, requests: 0, answered: 0 };
  private day = { day: 0, requests: 0 };
  private last: Status["last"] = null;
  private runtime!: Runtime;
  private versions!: Versions;
  private key!: CryptoKey;
  private deviceId!: string;
  private touched = true;
  private insisted = false;
  private due = false;
  private closed = false;
  private nextUpdate = Infinity;
  private working: Promise<unknown> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** What was ranked last: a page mostly ranks the same candidates again as events come. */
  private lastCandidates: { model: Model; given: unknown[]; ids: string[]; index: Int32Array } | null = null;
  private window: { count: number; model: Model; index: Int32Array } | null = null;

  private constructor(
    private readonly options: DeviceOptions,
    private readonly state: State,
    private readonly cloud: Cloud | null,
  ) {
    const random = options.random ?? Math.random;
    this.patience = new Patience(options.patience, random);
    this.updatePatience = new Patience(options.patience, random);
    this.clock = options.clock ?? (() => Date.now() / 1000);
  }

  /** A device that is ready to rank. */
  static async open(given: Partial<DeviceOptions>): Promise<LocalDevice> {
    const options = checkOptions(given);
    const state = await State.open(options.state);
    const { cloud } = options;
    const device = new LocalDevice(options, state, typeof cloud === "string" ? new HttpCloud(cloud, options.token) : cloud);
    try {
      await device.begin();
    } catch (cause) {
      await device.close();
      throw cause;
    }
    return device;
  }

  private async begin(): Promise<void> {
    const { options, state } = this;
    const kept = await state.get("device");
    const fresh = (): string => `web-${hex(crypto.getRandomValues(new Uint8Array(8)))}`;
    const good = typeof kept === "string" && /^web-[0-9a-f]{16}$/.test(kept);
    this.deviceId = options.deviceId ?? (good ? kept : fresh());
    this.versions = new Versions(options, state, this.cloud, this.deviceId, this.clock);
    const asked = [answerKey(options.token), state.events(this.log.capacity), this.readDay(), this.versions.begin()] as const;
    const [key, events] = await Promise.all(asked);
    // Not before all is read: it would have to wait.
    if (!options.deviceId && !good) void state.set("device", this.deviceId);
    this.key = key;
    this.log.append(events[0]);
    this.log.count = Math.max(this.log.count, events[1]);
    this.runtime = await this.made(this.versions.model);
    state.heard = (told) => void this.hear(told);
    if (this.cloud ?? options.bundle) this.nextUpdate = this.now() + this.spread(Math.min(options.updateSeconds, 60));
    this.touch();
  }

  /** A version with the theta that was kept for it. */
  private async made(model: Model): Promise<Runtime> {
    const store = new ParameterStore(model, this.state, this.key, this.deviceId, this.options.grace);
    await store.load(this.ms);
    this.log.count = Math.max(this.log.count, store.current?.origin.events ?? 0);
    return { model, store };
  }

  private get ms(): number {
    return this.clock() * 1000;
  }

  private now(): number {
    return performance.now() / 1000;
  }

  private spread(seconds: number): number {
    return seconds * (0.5 + 0.5 * Math.random());
  }

  // What an application asks.

  /** Note what has just happened, oldest first: original item ids; unknown ones count too. */
  async observe(...items: (string | number)[]): Promise<void> {
    const ids = itemIds(items);
    this.totals.unknownEvents += ids.filter((id) => this.runtime.model.find(id) === UNKNOWN).length;
    const kept = this.log.append(ids);
    const written = this.state.append(kept, MAX_LOG_EVENTS);
    this.state.tell({ what: "observed", items: kept });
    this.touch();
    this.onchange("observed");
    await written;
  }

  /** Candidates with their scores, best first; equal scores keep their order, and unknown ids come last. */
  async rank(candidates: Iterable<string | number>, options: RankOptions = {}): Promise<Ranked[]> {
    const { runtime, log } = this;
    const { model } = runtime;
    const { ids, index } = this.candidates(model, candidates);
    const hides = this.hides(model, options.met);
    const scores = await this.scores(runtime, index, options.personal);
    let shown = 0;
    const places = new Int32Array(index.length);
    for (let at = 0; at < index.length; at++) {
      const unknown = index[at] === UNKNOWN;
      if (unknown) {
        scores[at] = LAST;
        this.totals.unknownCandidates++;
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
    const { runtime, log } = this;
    const { model } = runtime;
    const wanted = count(k);
    const hides = this.hides(model, options.met);
    const scores = await this.scores(runtime, model.catalogue, options.personal);
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
    return (met ?? this.options.met ?? model.manifest.met) === "hide";
  }

  /** Scores of item indices, with theta if there is one to use: a fresh array. */
  private async scores({ model, store }: Runtime, index: Int32Array, personal = true): Promise<Float32Array> {
    if (this.window?.count !== this.log.count || this.window.model !== model)
      this.window = { count: this.log.count, model, index: model.indices(this.log.last(model.manifest.window)) };
    const window = this.window.index;
    const theta = personal ? store.usable(this.ms) : null;
    if (theta) {
      const { values, bias } = theta.at(model, this.log.count);
      const scores = await model.score(values, window, index);
      let finite = true;
      for (let at = 0; at < scores.length; at++) {
        if (bias) scores[at]! += bias[index[at]!]!;
        finite &&= Number.isFinite(scores[at]!);
      }
      if (finite) return scores;
      this.count(this.counts.refused, "non-finite-scores");
      store.drop(theta);
    }
    return model.score(model.zeros, window, index);
  }

  /** Theta as it counts now; null where there is none. */
  async theta(): Promise<(Aged & { opinions: { name: string; items: number }[] }) | null> {
    const { model, store } = this.runtime;
    const theta = store.usable(this.ms);
    if (!theta) return null;
    const opinions = theta.opinions.map(({ items }, at) => ({ name: model.manifest.opinions[at]!.name, items: items.length }));
    return { ...theta.at(model, this.log.count), opinions };
  }

  /** Ids with titles: the catalogue of the version in use, in the order of its indices, or what it has of these ids. */
  async items(wanted?: Iterable<string | number>): Promise<Item[]> {
    const { model } = this.runtime;
    const { ids, titles } = model.bundle;
    const places = wanted ? model.indices(itemIds(wanted)) : model.catalogue;
    return Array.from(places.filter((place) => place >= FIRST_ITEM), (place) => ({ id: ids[place]!, title: titles[place] ?? "" }));
  }

  /** The events that are kept, oldest first. */
  async events(length = MAX_LOG_EVENTS): Promise<string[]> {
    return this.log.last(length);
  }

  /** How the device is doing. */
  async status(): Promise<Status> {
    const { model, store } = this.runtime;
    const now = this.clock();
    const theta = store.usable(now * 1000);
    const aged = theta?.at(model, this.log.count);
    const traffic = this.cloud?.traffic;
    return {
      device: this.deviceId,
      modelId: model.id,
      name: model.manifest.name,
      backbone: model.manifest.backbone,
      engine: model.engine.name,
      previous: this.versions.previous,
      source: theta ? "theta" : "global",
      theta: theta && {
        sequence: theta.answer.sequence,
        issued: theta.answer.issued,
        expires: theta.answer.expires,
        ageSeconds: Math.max(0, now - theta.answer.issued / 1000),
        ageEvents: aged!.age,
        weightsBytes: theta.answer.theta.length + theta.answer.scale.length,
        weightsTrust: aged!.weightsTrust,
        biasBytes: theta.answer.bias.length,
        opinionsTrust: aged!.opinionsTrust,
      },
      events: this.log.count,
      ...this.totals,
      requestsToday: this.requestsToday(),
      refused: { ...this.counts.refused },
      failures: { ...this.counts.failures },
      lastError: this.counts.lastError,
      circuit: this.patience.circuit(this.now()),
      nextTrySeconds: this.patience.wait(this.now()),
      refusedVersions: this.versions.refused,
      diskErrors: this.state.errors,
      bytesSent: traffic?.sent ?? 0,
      bytesReceived: traffic?.received ?? 0,
      last: this.last,
    };
  }

  /** Ask by another policy from now on. */
  async setPolicy(policy: Policy): Promise<void> {
    checkPolicy(policy);
    this.options.policy = policy;
    this.touch();
  }

  /** Ask nothing, as if there were no network; or ask again. */
  async setOffline(offline: boolean): Promise<void> {
    if (this.cloud instanceof HttpCloud) this.cloud.offline = offline;
    if (!offline) this.online();
  }

  /** There is a network again: what waits is tried at once. */
  online(): void {
    if (this.patience.failures) this.patience.succeeded();
    this.updatePatience.succeeded();
    this.touch();
  }

  /** Ask for theta now, whatever the policy says. Whether a new one came; what the cloud asked to wait is waited for. */
  async refresh(): Promise<boolean> {
    if (!this.cloud || this.closed || !this.log.length) return false;
    if (this.patience.wait(this.now(), true)) {
      this.insisted = true;
      this.schedule();
      return false;
    }
    return this.state.alone(() => this.ask(this.runtime));
  }

  /** Do now what is due: ask for theta, look for a new version. Whether it asked. */
  async keepUp(): Promise<boolean> {
    if (this.closed) return false;
    let asked = false;
    const insisted = this.insisted;
    const touched = this.touched || this.patience.failures > 0;
    this.insisted = this.touched = false;
    if (this.cloud && touched) this.due = await this.wanted();
    if (this.cloud && (insisted || (touched && this.due))) {
      const may = (): boolean => this.patience.wait(this.now(), insisted) === 0;
      if (may())
        asked = await this.state.alone(async () => {
          // Another tab may have asked meanwhile.
          await Promise.all([this.runtime.store.load(this.ms), this.readDay()]);
          const still = insisted || this.options.state === null || (await this.wanted());
          if (!may() || !still) return false;
          await this.ask(this.runtime);
          return true;
        });
      // It was promised.
      if (insisted && !asked) this.insisted = true;
    }
    if (this.now() >= this.nextUpdate) await this.update();
    return asked;
  }

  /** Look for a new version now, and adopt it if it is good. Whether the version changed. */
  async update(): Promise<boolean> {
    if (this.closed) return false;
    const wait = this.updatePatience.wait(this.now());
    this.nextUpdate = this.now() + (wait || this.spread(this.options.updateSeconds));
    if (wait) return false;
    try {
      const found = await this.versions.look();
      this.updatePatience.succeeded();
      if (!found) return false;
      const runtime = await this.made(found);
      // A theta for the new version first, if there is one to be had, so that the swap costs no quality.
      if (!runtime.store.current && this.cloud && !this.patience.wait(this.now())) await this.ask(runtime);
      this.runtime = runtime;
      await this.versions.adopt(found);
    } catch (cause) {
      const code = cause instanceof DuetError ? cause.code : "internal";
      this.fail(`update-${code}`, cause);
      if (code !== "invalid-bundle") {
        this.updatePatience.failed(this.now(), cause instanceof CloudRefusedError ? cause.retryAfter : null);
        this.nextUpdate = this.now() + this.updatePatience.wait(this.now());
      }
      return false;
    }
    this.changed("version");
    return true;
  }

  /** Use the version before again, from now on; its id. */
  async rollback(): Promise<string> {
    const model = await this.versions.rollback();
    this.runtime = await this.made(model);
    this.changed("version");
    return model.id;
  }

  private changed(what: "theta" | "version" | "forgotten"): void {
    this.state.tell({ what });
    if (what === "version") this.touch();
    this.onchange(what);
  }

  /** Erase what the device has seen and theta of every version; an answer that is on its way is not taken. */
  async forget(): Promise<void> {
    this.insisted = false;
    this.erase();
    const gone = await Promise.all([this.state.clearEvents(), this.state.delete("theta/")]);
    this.changed("forgotten");
    if (this.options.state !== null && gone.includes(false))
      throw new DuetError("not-forgotten", "all is forgotten but what the browser does not let go of", "forget again, or clear this page's data");
  }

  private erase(): void {
    this.log.clear();
    this.state.drop();
    this.runtime.store.clear();
    this.versions.forget();
    this.lastCandidates = this.window = this.last = null;
  }

  /** Stop asking and writing; ranking goes on working. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    this.cloud?.close();
    await this.versions.close();
    await this.state.close();
  }

  // What it does by itself.

  private async hear(told: Told): Promise<void> {
    if (told.what === "observed") {
      if (Array.isArray(told.items)) this.log.append(itemIds(told.items));
    } else if (told.what === "theta") await this.runtime.store.load(this.ms);
    else if (told.what === "forgotten") this.erase();
    else if (await this.versions.reload()) this.runtime = await this.made(this.versions.model);
    this.onchange(told.what);
  }

  private touch(): void {
    this.touched = true;
    this.schedule();
  }

  private schedule(): void {
    if (!this.options.background || this.closed || this.working) return;
    clearTimeout(this.timer);
    this.working = this.keepUp()
      .catch((cause: unknown) => this.fail("internal", cause))
      .then(() => {
        this.working = null;
        if (this.touched) return this.schedule();
        const waiting = this.insisted || (this.patience.failures > 0 && this.due);
        const rest = Math.min(
          this.nextUpdate - this.now(),
          waiting ? Math.max(0.05, this.patience.wait(this.now(), this.insisted)) : Infinity,
        );
        if (!this.closed && rest < Infinity) this.timer = setTimeout(() => this.schedule(), Math.min(Math.max(0, rest), LONGEST) * 1000);
      });
  }

  /** What was sent today, by any tab. */
  private async readDay(): Promise<void> {
    const kept = (await this.state.get("requests")) as typeof this.day | undefined;
    const good = Number.isInteger(kept?.day) && Number.isInteger(kept?.requests);
    if (good && (kept!.day !== this.day.day || kept!.requests > this.day.requests)) this.day = kept!;
  }

  private requestsToday(): number {
    return this.day.day === Math.floor(this.clock() / DAY) ? this.day.requests : 0;
  }

  /** Whether the policy wants theta now; never before the first event, nor where the policy fails. */
  private async wanted(): Promise<boolean> {
    const { model, store } = this.runtime;
    const { log } = this;
    if (!log.length) return false;
    const origin = store.current?.origin;
    const passed = origin ? this.clock() - origin.asked : -1;
    try {
      return await due(this.options.policy, {
        hasTheta: store.fresh(this.clock()),
        events: log.count - (origin?.events ?? 0),
        seconds: passed >= 0 ? passed : Infinity,
        requestsToday: this.requestsToday(),
        history: [...model.indices(log.last(model.manifest.history))],
        madeFrom: origin?.history ?? [],
        profiles: model.profiles,
      });
    } catch (cause) {
      this.fail("policy", cause);
      return false;
    }
  }

  /** Send one request; whether it gave a theta to use. */
  private async ask({ model, store }: Runtime): Promise<boolean> {
    const { log, cloud, options } = this;
    // Before the log is read: what is forgotten after this is in no theta that is taken.
    const { cleared } = store;
    const history = [...model.indices(log.last(model.manifest.history))];
    if (!history.length || !cloud) return false;
    const today = Math.floor(this.clock() / DAY);
    this.day = { day: today, requests: this.requestsToday() + 1 };
    this.totals.requests++;
    void this.state.set("requests", this.day);
    try {
      const issued = store.current?.answer.issued;
      const items = model.manifest.opinions.reduce((sum, opinion) => sum + opinion.items, 0);
      const events = log.count;
      const answer = await cloud.parameters(
        {
          model_id: model.id,
          device: this.deviceId,
          history,
          dtype: options.encoding,
          age_ms: issued === undefined ? null : Math.max(0, Math.floor(this.ms) - issued),
          parts: options.parts,
        },
        4 * model.zeros.length + PAIR_BYTES * items + ANSWER_SLACK,
      );
      const begun = performance.now();
      const unasked =
        answer.dtype !== options.encoding ||
        (answer.bias.length && options.parts === "weights") ||
        (answer.theta.length && options.parts === "bias");
      if (unasked) throw new RefusedParametersError("malformed", "theta is not what was asked for");
      const origin: Origin = { events, asked: this.clock(), received: this.clock(), history };
      await store.accept(answer, origin, this.ms, cleared);
      if (cloud.traffic?.last) this.last = { ...cloud.traffic.last, sequence: answer.sequence, device: performance.now() - begun };
      this.totals.answered++;
      this.counts.lastError = "";
      this.patience.succeeded();
      this.changed("theta");
      return true;
    } catch (cause) {
      if (cause instanceof RefusedParametersError) {
        this.count(this.counts.refused, cause.reason);
        this.counts.lastError = cause.message;
        if (cause.reason !== "forgotten") this.patience.failed(this.now());
        this.onchange("failed");
      } else {
        const refusal = cause instanceof CloudRefusedError ? cause : null;
        if (refusal && (refusal.status === 404 || refusal.status === 410)) this.nextUpdate = this.now();
        this.patience.failed(this.now(), refusal?.retryAfter ?? null);
        this.fail(cause instanceof DuetError ? cause.code : "internal", cause);
      }
      return false;
    }
  }

  private count(counts: Record<string, number>, code: string): void {
    counts[code] = (counts[code] ?? 0) + 1;
  }

  private fail(code: string, cause: unknown): void {
    this.count(this.counts.failures, code);
    this.counts.lastError = cause instanceof Error ? cause.message : String(cause);
    this.onchange("failed");
  }
}

function ranked(places: Int32Array, ids: readonly string[], scores: Float32Array): Ranked[] {
  const found = new Array<Ranked>(places.length);
  for (let at = 0; at < found.length; at++) found[at] = [ids[places[at]!]!, scores[places[at]!]!];
  return found;
}

/** Places from the highest score to the lowest, equal ones in their order: sorted by some bits of the score at a time. */
function bestFirst(places: Int32Array, scores: Float32Array): Int32Array {
  const { length } = places;
  const keys = new Uint32Array(length);
  const values = new Float32Array(keys.buffer);
  let from = new Int32Array(length);
  let to = new Int32Array(length);
  for (let at = 0; at < length; at++) {
    // No negative zero; and bits that rise as the score falls.
    values[at] = scores[places[at]!]! + 0;
    if (keys[at]! < 2 ** 31) keys[at] = ~keys[at]! & 0x7fffffff;
    from[at] = at;
  }
  const bits = length < 4096 ? 8 : 11;
  const begins = new Int32Array(2 ** bits);
  const most = begins.length - 1;
  for (let shift = 0; shift < 32; shift += bits) {
    begins.fill(0);
    for (let at = 0; at < length; at++) begins[(keys[at]! >>> shift) & most]!++;
    for (let digit = 0, begin = 0; digit <= most; digit++) {
      const count = begins[digit]!;
      begins[digit] = begin;
      begin += count;
    }
    for (let at = 0; at < length; at++) {
      const place = from[at]!;
      to[begins[(keys[place]! >>> shift) & most]!++] = place;
    }
    [from, to] = [to, from];
  }
  for (let at = 0; at < length; at++) to[at] = places[from[at]!]!;
  return to;
}

/** The places of the `wanted` highest scores, of equal ones the lowest place first; -Infinity is none. */
function best(scores: Float32Array, wanted: number): Int32Array {
  const room = Math.min(scores.length, 2 * wanted + 64);
  const places = new Int32Array(room);
  let [kept, least] = [0, -Infinity];
  const cut = (): void => {
    places.set(bestFirst(places.subarray(0, kept), scores));
    kept = Math.min(kept, wanted);
    if (wanted && kept === wanted) least = scores[places[kept - 1]!]!;
  };
  for (let at = 0; at < scores.length; at++) {
    if (!(scores[at]! > least)) continue;
    if (kept === room) cut();
    if (scores[at]! > least) places[kept++] = at;
  }
  cut();
  return places.subarray(0, kept);
}
