/** How a device asks: for theta, by its policy, and for newer versions. */
import { PAIR_BYTES } from "./bias";
import type { Cloud } from "./client";
import { CloudRefusedError } from "./cloud-refusal";
import type { Change, LocalDevice, Status } from "./device";
import { due } from "./due";
import { DuetError } from "./errors";
import { ANSWER_SLACK } from "./limits";
import type { EventLog } from "./log";
import type { Model } from "./model";
import type { DeviceOptions } from "./options";
import { Patience } from "./patience";
import { RefusedParametersError } from "./refused";
import type { State } from "./state";
import { type Origin, ParameterStore } from "./store";
import type { Tally } from "./tally";
import { Updates } from "./updates";
import type { Versions } from "./versions";

const DAY = 86_400;
/** The longest that a timer waits, in seconds. */
const LONGEST = 2 ** 31 / 1000 - 1;

/** What is known of a device, whether it ranks or asks. */
export interface Shared {
  readonly options: DeviceOptions;
  readonly state: State;
  readonly cloud: Cloud | null;
  readonly log: EventLog;
  readonly versions: Versions;
  readonly deviceId: string;
  readonly clock: () => number;
  readonly tally: Tally;
  closed: boolean;
  /** Tell the page. */
  changed(what: Change): void;
}

export class Asking {
  private readonly patience: Patience;
  private readonly updatePatience: Patience;
  private readonly updates: Updates;
  private day = { day: 0, requests: 0 };
  private last: Status["last"] = null;
  private touched = true;
  private insisted = false;
  private due = false;
  private nextUpdate = Infinity;
  private working: Promise<unknown> | null = null;
  private single: Promise<unknown> = Promise.resolve();
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Theta for the version in use. */
  private store: ParameterStore;

  constructor(private readonly shared: Shared) {
    const { options, cloud, versions, state, clock } = shared;
    const random = options.random ?? Math.random;
    this.patience = new Patience(options.patience, random);
    this.updatePatience = new Patience(options.patience, random);
    this.updates = new Updates(versions, state, clock);
    this.store = this.storeOf(versions.model);
    if (cloud ?? options.bundle) this.nextUpdate = this.now() + this.spread(Math.min(options.updateSeconds, 60));
  }

  /** With the theta that was kept for the version in use. */
  async begin(): Promise<void> {
    await Promise.all([this.load(this.store), this.readDay()]);
    this.touch();
  }

  private storeOf(model: Model): ParameterStore {
    const { state, deviceId, options } = this.shared;
    return new ParameterStore(model, state, options.token, deviceId, options.grace);
  }

  private async load(store: ParameterStore): Promise<ParameterStore> {
    const { log } = this.shared;
    await store.load(this.ms);
    log.count = Math.max(log.count, store.current?.origin.events ?? 0);
    return store;
  }

  /** Use a version from now on, with its theta. */
  private use(store: ParameterStore): void {
    this.store = store;
    this.shared.versions.model = store.model;
  }

  private get ms(): number {
    return this.shared.clock() * 1000;
  }

  private now(): number {
    return performance.now() / 1000;
  }

  private spread(seconds: number): number {
    return seconds * (0.5 + 0.5 * Math.random());
  }

  status(): Pick<Status, "source" | "theta" | "previous" | "refusedVersions" | "requestsToday" | "circuit" | "nextTrySeconds" | "last"> {
    const now = this.now();
    const theta = this.store.usable(this.ms);
    const aged = theta?.at(this.store.model, this.shared.log.count);
    return {
      source: theta ? "theta" : "global",
      theta: theta && {
        sequence: theta.answer.sequence,
        issued: theta.answer.issued,
        expires: theta.answer.expires,
        ageSeconds: Math.max(0, (this.ms - theta.answer.issued) / 1000),
        ageEvents: aged!.age,
        weightsBytes: theta.answer.theta.length + theta.answer.scale.length,
        weightsTrust: aged!.weightsTrust,
        biasBytes: theta.answer.bias.length,
        opinionsTrust: aged!.opinionsTrust,
      },
      previous: this.updates.previous,
      refusedVersions: this.updates.refused,
      requestsToday: this.requestsToday(),
      circuit: this.patience.circuit(now),
      nextTrySeconds: this.patience.wait(now),
      last: this.last,
    };
  }

  /** Scores of item indices with theta: a fresh array; null without a theta to use. */
  async scores(window: Int32Array, index: Int32Array): Promise<Float32Array | null> {
    const { store } = this;
    const { model } = store;
    const theta = store.usable(this.ms);
    if (!theta) return null;
    const { values, bias } = theta.at(model, this.shared.log.count);
    const scores = await model.score(values, window, index);
    let finite = true;
    for (let at = 0; at < scores.length; at++) {
      if (bias) scores[at]! += bias[index[at]!]!;
      finite &&= Number.isFinite(scores[at]!);
    }
    if (finite) return scores;
    this.shared.tally.refuse("non-finite-scores");
    store.drop(theta);
    return null;
  }

  /** Theta as it counts now. */
  theta(): Awaited<ReturnType<LocalDevice["theta"]>> {
    const { log } = this.shared;
    const { model } = this.store;
    const theta = this.store.usable(this.ms);
    if (!theta) return null;
    const opinions = theta.opinions.map(({ items }, at) => ({ name: model.manifest.opinions[at]!.name, items: items.length }));
    return { ...theta.at(model, log.count), opinions };
  }

  /** There is a network again: what waits is tried at once. */
  online(): void {
    if (this.patience.failures) this.patience.succeeded();
    this.updatePatience.succeeded();
    this.touch();
  }

  /** Do something while nobody else does, in this tab or another. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const { state } = this.shared;
    const locks = globalThis.navigator?.locks;
    // A browser that forbids storage forbids locks as well.
    const shared = state.keeps && locks ? () => locks.request(`duet-${state.name}`, work) as Promise<T> : work;
    const now = this.single.then(shared);
    this.single = now.catch(() => undefined);
    return now;
  }

  /** Ask for theta now, whatever the policy says. Whether a new one came; what the cloud asked to wait is waited for. */
  async refresh(): Promise<boolean> {
    const { cloud, closed, log } = this.shared;
    if (!cloud || closed || !log.length) return false;
    if (this.patience.wait(this.now(), true)) {
      this.insisted = true;
      this.schedule();
      return false;
    }
    return this.alone(() => this.ask(this.store));
  }

  /** Do now what is due: ask for theta, look for a new version. Whether it asked. */
  async keepUp(): Promise<boolean> {
    const { cloud, closed, options } = this.shared;
    if (closed) return false;
    let asked = false;
    const insisted = this.insisted;
    const touched = this.touched || this.patience.failures > 0;
    this.insisted = this.touched = false;
    if (cloud && touched) this.due = await this.wanted();
    if (cloud && (insisted || (touched && this.due))) {
      const may = (): boolean => this.patience.wait(this.now(), insisted) === 0;
      if (may())
        asked = await this.alone(async () => {
          // Another tab may have asked meanwhile.
          await Promise.all([this.store.load(this.ms), this.readDay()]);
          const still = insisted || options.state === null || (await this.wanted());
          if (!may() || !still) return false;
          await this.ask(this.store);
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
    const { closed, cloud, options } = this.shared;
    if (closed) return false;
    const wait = this.updatePatience.wait(this.now());
    this.nextUpdate = this.now() + (wait || this.spread(options.updateSeconds));
    if (wait) return false;
    try {
      const found = await this.updates.look();
      this.updatePatience.succeeded();
      if (!found) return false;
      const store = await this.load(this.storeOf(found));
      // A theta for the new version first, if there is one to be had, so that the swap costs no quality.
      if (!store.current && cloud && !this.patience.wait(this.now())) await this.ask(store);
      this.use(store);
      await this.updates.adopt(found);
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
    const model = await this.updates.before();
    this.use(await this.load(this.storeOf(model)));
    await this.updates.leave(model);
    this.changed("version");
    return model.id;
  }

  private changed(what: "theta" | "version"): void {
    this.shared.state.tell({ what });
    if (what === "version") this.touch();
    this.shared.changed(what);
  }

  /** Another tab has a new theta, or another version. */
  async hear(what: "theta" | "version"): Promise<void> {
    if (what === "theta") return this.store.load(this.ms);
    const model = await this.shared.versions.reload();
    if (model) this.use(await this.load(this.storeOf(model)));
  }

  /** What was seen is forgotten: nothing is asked for it. */
  forget(): void {
    this.store.clear();
    this.insisted = false;
    this.last = null;
  }

  async stop(): Promise<void> {
    clearTimeout(this.timer);
    await this.updates.flush();
  }

  /** Something happened that a policy may want to know. */
  touch(): void {
    this.touched = true;
    this.schedule();
  }

  private schedule(): void {
    if (!this.shared.options.background || this.shared.closed || this.working) return;
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
        if (!this.shared.closed && rest < Infinity) this.timer = setTimeout(() => this.schedule(), Math.min(Math.max(0, rest), LONGEST) * 1000);
      });
  }

  /** What was sent today, by any tab. */
  private async readDay(): Promise<void> {
    const kept = (await this.shared.state.get("requests")) as typeof this.day | undefined;
    const good = Number.isInteger(kept?.day) && Number.isInteger(kept?.requests);
    if (good && (kept!.day !== this.day.day || kept!.requests > this.day.requests)) this.day = kept!;
  }

  private requestsToday(): number {
    return this.day.day === Math.floor(this.shared.clock() / DAY) ? this.day.requests : 0;
  }

  /** Whether the policy wants theta now; never before the first event, nor where the policy fails. */
  private async wanted(): Promise<boolean> {
    const { log, clock, options } = this.shared;
    const { store } = this;
    const { model } = store;
    if (!log.length) return false;
    const origin = store.current?.origin;
    const passed = origin ? clock() - origin.asked : -1;
    try {
      return await due(options.policy, {
        hasTheta: store.fresh(clock()),
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
  private async ask(store: ParameterStore): Promise<boolean> {
    const { log, cloud, options, clock, deviceId, state, tally } = this.shared;
    const { model } = store;
    // Before the log is read: what is forgotten after this is in no theta that is taken.
    const { cleared } = store;
    const history = [...model.indices(log.last(model.manifest.history))];
    if (!history.length || !cloud) return false;
    const today = Math.floor(clock() / DAY);
    this.day = { day: today, requests: this.requestsToday() + 1 };
    tally.requests++;
    const counted = state.set("requests", this.day);
    // Theta is kept behind the version that it is for.
    void this.updates.flush();
    try {
      const issued = store.current?.answer.issued;
      const items = model.manifest.opinions.reduce((sum, opinion) => sum + opinion.items, 0);
      const events = log.count;
      const answer = await cloud.parameters(
        {
          model_id: model.id,
          device: deviceId,
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
      const origin: Origin = { events, asked: clock(), received: clock(), history };
      await store.accept(answer, origin, this.ms, cleared);
      if (cloud.traffic?.last) this.last = { ...cloud.traffic.last, sequence: answer.sequence, device: performance.now() - begun };
      tally.answered++;
      tally.lastError = "";
      this.patience.succeeded();
      this.changed("theta");
      return true;
    } catch (cause) {
      if (cause instanceof RefusedParametersError) {
        tally.refuse(cause.reason);
        tally.lastError = cause.message;
        if (cause.reason !== "forgotten") this.patience.failed(this.now());
        this.shared.changed("failed");
      } else {
        const refusal = cause instanceof CloudRefusedError ? cause : null;
        if (refusal && (refusal.status === 404 || refusal.status === 410)) this.nextUpdate = this.now();
        this.patience.failed(this.now(), refusal?.retryAfter ?? null);
        this.fail(cause instanceof DuetError ? cause.code : "internal", cause);
      }
      return false;
    } finally {
      // The next tab that may ask shall know of it.
      await counted;
    }
  }

  private fail(code: string, cause: unknown): void {
    this.shared.tally.fail(code, cause);
    this.shared.changed("failed");
  }
}
