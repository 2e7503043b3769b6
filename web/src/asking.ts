/** How a device asks: for theta, by its policy, and for newer versions. */
import { PAIR_BYTES } from "./bias";
import { sum } from "./bytes";
import type { Cloud } from "./client";
import { CloudRefusedError } from "./cloud-refusal";
import type { Change, LocalDevice, Status } from "./device";
import { DuetError } from "./errors";
import { ANSWER_SLACK, MAX_CLOCK_SKEW_MS } from "./limits";
import type { EventLog } from "./log";
import type { Model } from "./model";
import type { CheckedOptions } from "./options";
import { patienceOf } from "./patience";
import { due } from "./policy";
import { RefusedParametersError, refuse } from "./refused";
import { type State, thetaKey } from "./state";
import { atAgeOf, checkTheta, keptTheta, type Theta } from "./store";
import type { Versions } from "./versions";

export { parametersAnswer } from "./answers";
export { decode } from "./msgpack";
export { encode } from "./packing";

const DAY = 86_400;
/** The longest that a timer waits, in seconds. */
const LONGEST = 2 ** 31 / 1000 - 1;

/** What a device counts, for its status. */
export interface Tally extends Pick<Status, "lastError" | "unknownEvents" | "unknownCandidates" | "requests" | "answered"> {
  refused: Record<string, number>;
  failures: Record<string, number>;
}

/** What is known of a device, whether it ranks or asks. */
export interface Shared {
  readonly options: CheckedOptions;
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

export interface Asking extends Pick<LocalDevice, "theta" | "online" | "refresh" | "keepUp" | "update" | "rollback"> {
  /** With the theta that was kept for the version in use. */
  begin(): Promise<void>;
  status(): Pick<Status, "source" | "theta" | "previous" | "refusedVersions" | "requestsToday" | "circuit" | "nextTrySeconds" | "last">;
  /** Scores of item indices with theta: a fresh array; null without a theta to use. */
  scores(window: Int32Array, index: Int32Array): Promise<Float32Array | null>;
  /** Another tab has a new theta, or another version. */
  hear(what: "theta" | "version"): Promise<void>;
  /** What was seen is forgotten: nothing is asked for it. */
  erase(): void;
  stop(): void;
  /** Something happened that a policy may want to know. */
  touch(): void;
}

/** The theta that a version has, checked before it is used and again when it is loaded. */
interface Store {
  readonly model: Model;
  theta: Theta | null;
}

/** Does one thing after the other. */
const inTurn = (): (<T>(work: () => Promise<T>) => Promise<T>) => {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const found = last.then(work);
    last = found.catch(() => undefined);
    return found;
  };
};

export function asking(shared: Shared): Asking {
  const { options, cloud, versions, state, clock, log, deviceId, tally } = shared;
  const [patience, updatePatience] = [0, 1].map(() => patienceOf(options.patience, options.random ?? Math.random)) as [
    ReturnType<typeof patienceOf>,
    ReturnType<typeof patienceOf>,
  ];
  const ms = (): number => clock() * 1000;
  const now = (): number => performance.now() / 1000;
  const spread = (seconds: number): number => seconds * (0.5 + 0.5 * Math.random());
  let day = { day: 0, requests: 0 };
  let last: Status["last"] = null;
  let [touched, insisted, waits] = [true, false, false];
  let nextUpdate = now() + spread(options.updateSeconds < Infinity ? Math.min(options.updateSeconds, 60) : Infinity);
  let working = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** How often all was forgotten; an answer to a question of before is not taken. */
  let forgotten = 0;
  let store: Store = { model: versions.model, theta: null };

  const keyOf = ({ model }: Store): string => thetaKey(model.id);
  /** The theta of an answer, if it may be used now. */
  const check = async ({ model }: Store, answer: Theta["answer"], origin: Theta["origin"], before: number): Promise<Theta> => {
    const theta = await checkTheta(model, options.token, deviceId, answer, origin);
    if (answer.issued > ms() + MAX_CLOCK_SKEW_MS) refuse("from-future", "was issued in the future");
    if (expired(theta)) refuse("expired", "has expired");
    if (before !== forgotten) refuse("forgotten", "was made from what is forgotten");
    return theta;
  };
  const expired = ({ answer }: Theta): boolean => answer.expires + options.grace * 1000 < ms();
  /** The theta to rank with now. */
  const usable = ({ theta } = store): Theta | null => (theta && !expired(theta) ? theta : null);
  /** Take what was kept, if it passes every check of a fresh answer. */
  const reload = async (store: Store): Promise<void> => {
    const before = forgotten;
    try {
      const { answer, origin } = keptTheta(await state.get(keyOf(store)), "");
      if (origin.history.some((item) => item >= store.model.manifest.vocabulary)) return;
      const theta = await check(store, answer, origin, before);
      if (!store.theta || answer.sequence > store.theta.answer.sequence) store.theta = theta;
    } catch {
      // There is none, or it was damaged: begins with theta = 0.
    }
  };
  const load = async (model = versions.model): Promise<Store> => {
    const found: Store = { model, theta: null };
    await reload(found);
    log.count = Math.max(log.count, found.theta?.origin.events ?? 0);
    return found;
  };
  /** Use a version from now on, with its theta. */
  const use = (found: Store): void => {
    store = found;
    versions.model = found.model;
  };

  const codeOf = (cause: unknown): string => (cause instanceof DuetError ? cause.code : "internal");
  const count = (counts: Record<string, number>, name: string, cause: unknown): void => {
    counts[name] = (counts[name] ?? 0) + 1;
    tally.lastError = cause instanceof Error ? cause.message : String(cause);
    shared.changed("failed");
  };
  const fail = (cause: unknown, name = codeOf(cause)): void => count(tally.failures, name, cause);
  const changed = (what: "theta" | "version"): void => {
    state.tell({ what });
    if (what === "version") touch();
    shared.changed(what);
  };

  const asks = inTurn();
  const changes = inTurn();
  /** Do something while nobody else does, in this tab or another. */
  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const locks = globalThis.navigator?.locks;
    // A browser that forbids storage forbids locks as well.
    return asks(state.keeps() && locks ? () => locks.request(`duet-${state.name}`, work) as Promise<T> : work);
  };

  const today = (): number => Math.floor(clock() / DAY);
  const requestsToday = (): number => (day.day === today() ? day.requests : 0);
  /** What was sent today, by any tab. */
  const readDay = async (): Promise<void> => {
    const kept = (await state.get("requests")) as typeof day | undefined;
    const good = Number.isInteger(kept?.day) && Number.isInteger(kept?.requests);
    if (good && (kept!.day !== day.day || kept!.requests > day.requests)) day = kept!;
  };
  const history = ({ indices, manifest }: Model): number[] => [...indices(log.last(manifest.history))];

  /** Whether the policy wants theta now; never before the first event, nor where the policy fails. */
  const wanted = async (): Promise<boolean> => {
    const { theta, model } = store;
    const { answer, origin } = theta ?? {};
    const since = (then: number): number => {
      const passed = clock() - then;
      return passed >= 0 ? passed : Infinity;
    };
    try {
      return (
        log.length > 0 &&
        (await due(options.policy, {
          // Not to be replaced for its age alone, counted from when it came.
          hasTheta: !!theta && since(origin!.received) < (answer!.expires - answer!.issued) / 1000,
          events: log.count - (origin?.events ?? 0),
          seconds: since(origin?.asked ?? Infinity),
          requestsToday: requestsToday(),
          history: history(model),
          madeFrom: origin?.history ?? [],
          profiles: model.profiles,
        }))
      );
    } catch (cause) {
      fail(cause, "policy");
      return false;
    }
  };

  /** Send one request; whether it gave a theta to use. */
  const ask = async (store: Store): Promise<boolean> => {
    const { model, theta } = store;
    const before = forgotten;
    const { encoding, parts } = options;
    const seen = history(model);
    if (!seen.length || !cloud) return false;
    const events = log.count;
    day = { day: today(), requests: requestsToday() + 1 };
    tally.requests++;
    const counted = state.put({ requests: day });
    // Theta is kept behind the version that it is for.
    void versions.flush();
    try {
      const answer = await cloud.parameters(
        {
          model_id: model.id,
          device: deviceId,
          history: seen,
          dtype: encoding,
          age_ms: theta && Math.max(0, Math.floor(ms()) - theta.answer.issued),
          parts,
        },
        4 * model.zeros.length + PAIR_BYTES * sum(model.manifest.opinions.map(({ items }) => items)) + ANSWER_SLACK,
      );
      const begun = performance.now();
      if (answer.dtype !== encoding || (answer.bias.length && parts === "weights") || (answer.theta.length && parts === "bias"))
        refuse("malformed", "is not what was asked for");
      const origin = { events, asked: clock(), received: clock(), history: seen };
      const fresh = await check(store, answer, origin, before);
      // A sequence must grow, unless the theta at hand can no longer be used.
      const held = usable(store)?.answer.sequence;
      if (answer.sequence <= held!) refuse("older", `has the sequence ${answer.sequence}, the device has ${held}`);
      store.theta = fresh;
      await state.put({ [keyOf(store)]: { answer, origin } });
      if (cloud.traffic?.last) last = { ...cloud.traffic.last, sequence: answer.sequence, device: performance.now() - begun };
      tally.answered++;
      tally.lastError = "";
      patience.succeeded();
      changed("theta");
      return true;
    } catch (cause) {
      if (cause instanceof RefusedParametersError) {
        if (cause.reason !== "forgotten") patience.failed(now());
        count(tally.refused, cause.reason, cause);
      } else {
        const { status, retryAfter = null } = cause instanceof CloudRefusedError ? cause : {};
        if (status === 404 || status === 410) nextUpdate = now();
        patience.failed(now(), retryAfter);
        fail(cause);
      }
      return false;
    } finally {
      // The next tab that may ask shall know of it.
      await counted;
    }
  };

  const schedule = (): void => {
    if (!options.background || shared.closed || working) return;
    clearTimeout(timer);
    working = true;
    void device
      .keepUp()
      .catch(fail)
      .then(() => {
        working = false;
        if (touched) return schedule();
        const waiting = insisted || (patience.failing() && waits);
        const rest = Math.min(nextUpdate - now(), waiting ? Math.max(0.05, patience.wait(now(), insisted)) : Infinity, LONGEST);
        if (!shared.closed) timer = setTimeout(schedule, Math.max(0, rest) * 1000);
      });
  };
  const touch = (): void => {
    touched = true;
    schedule();
  };

  const device: Asking = {
    touch,
    async begin() {
      [store] = await Promise.all([load(), readDay()]);
      touch();
    },
    status() {
      const theta = usable();
      const aged = theta && atAgeOf(theta, store.model, log.count);
      const { previous, refused } = versions.known();
      return {
        source: theta ? "theta" : "global",
        theta: theta && {
          sequence: theta.answer.sequence,
          issued: theta.answer.issued,
          expires: theta.answer.expires,
          ageSeconds: Math.max(0, (ms() - theta.answer.issued) / 1000),
          ageEvents: aged!.age,
          weightsBytes: theta.answer.theta.length + theta.answer.scale.length,
          weightsTrust: aged!.weightsTrust,
          biasBytes: theta.answer.bias.length,
          opinionsTrust: aged!.opinionsTrust,
        },
        previous: previous[0] ?? null,
        refusedVersions: Object.fromEntries(Object.entries(refused).map(([name, { reason }]) => [name, reason])),
        requestsToday: requestsToday(),
        circuit: patience.circuit(now()),
        nextTrySeconds: patience.wait(now()),
        last,
      };
    },
    async scores(window, index) {
      const { model } = store;
      const theta = usable();
      if (!theta) return null;
      const { values, bias } = atAgeOf(theta, model, log.count);
      const scores = await model.score(values, window, index);
      let strange = 0;
      for (let at = 0; at < scores.length; at++) {
        if (bias) scores[at]! += bias[index[at]!]!;
        // No number, where a score is not finite.
        strange += 0 * scores[at]!;
      }
      if (!Number.isNaN(strange)) return scores;
      tally.refused["non-finite-scores"] = (tally.refused["non-finite-scores"] ?? 0) + 1;
      if (store.theta === theta) {
        store.theta = null;
        void state.remove(keyOf(store));
      }
      return null;
    },
    async theta() {
      const { model } = store;
      const theta = usable();
      const opinions = theta?.opinions.map(({ items }, at) => ({ name: model.manifest.opinions[at]!.name, items: items.length }));
      return theta && { ...atAgeOf(theta, model, log.count), opinions: opinions! };
    },
    online() {
      patience.hurry();
      updatePatience.hurry();
      touch();
    },
    async refresh() {
      if (!cloud || shared.closed || !log.length) return false;
      if (!patience.wait(now(), true)) return alone(() => ask(store));
      insisted = true;
      schedule();
      return false;
    },
    async keepUp() {
      if (shared.closed) return false;
      let asked = false;
      const promised = insisted;
      const may = (): boolean => !patience.wait(now(), promised);
      const looks = cloud && (touched || patience.failing());
      insisted = touched = false;
      if (looks) waits = await wanted();
      if (cloud && (promised || (looks && waits)) && may())
        asked = await alone(async () => {
          // Another tab may have asked meanwhile.
          await Promise.all([reload(store), readDay()]);
          const still = promised || options.state === null || (await wanted());
          if (!may() || !still) return false;
          await ask(store);
          return true;
        });
      if (promised && !asked) insisted = true;
      if (now() >= nextUpdate) await device.update();
      return asked;
    },
    update: () =>
      changes(async () => {
        if (shared.closed) return false;
        const wait = updatePatience.wait(now());
        nextUpdate = now() + (wait || spread(options.updateSeconds));
        if (wait) return false;
        try {
          const model = await versions.look();
          updatePatience.succeeded();
          if (!model) return false;
          const found = await load(model);
          // A theta for the new version first, if there is one to be had, so that the swap costs no quality.
          if (!found.theta && !patience.wait(now())) await ask(found);
          use(found);
          await versions.adopt(model);
        } catch (cause) {
          const code = codeOf(cause);
          if (code !== "invalid-bundle") {
            updatePatience.failed(now(), cause instanceof CloudRefusedError ? cause.retryAfter : null);
            nextUpdate = now() + updatePatience.wait(now());
          }
          fail(cause, `update-${code}`);
          return false;
        }
        changed("version");
        return true;
      }),
    rollback: () =>
      changes(async () => {
        const model = await versions.before();
        use(await load(model));
        await versions.leave(model);
        changed("version");
        return model.id;
      }),
    async hear(what) {
      if (what === "theta") return reload(store);
      const model = await versions.reload();
      if (model) use(await load(model));
    },
    erase() {
      forgotten++;
      store.theta = null;
      insisted = false;
      last = null;
    },
    stop: () => clearTimeout(timer),
  };
  return device;
}
