/** The one theta that a device ranks with, checked before it is used and again when it is loaded. */
import { type ParametersAnswer, parametersAnswer, verifyAnswer } from "./answers";
import { product } from "./bytes";
import { decodeBias, type ItemBias } from "./bias";
import { list, number, object, whole } from "./check";
import { ThetaCodec } from "./codec";
import { UNKNOWN } from "./items";
import { MAX_CLOCK_SKEW_MS, MAX_HISTORY, MAX_ITEMS } from "./limits";
import type { Model } from "./model";
import { type Reason, RefusedParametersError } from "./refused";
import type { State } from "./state";

/** Bounds are learnt on exact values; encodings round. */
const SLACK = 1.01;

const origin = object({
  events: whole(0, Number.MAX_SAFE_INTEGER),
  asked: number(),
  received: number(),
  history: list(whole(UNKNOWN, MAX_ITEMS), 0, MAX_HISTORY),
});
/** What the device knows of a theta beyond the cloud's answer: what it was made from, and when, in seconds. */
export type Origin = ReturnType<typeof origin>;
const kept = object({ answer: parametersAnswer, origin });

/** Theta as it counts at one age. */
export interface Aged {
  age: number;
  weightsTrust: number;
  opinionsTrust: number[];
  values: Float32Array;
  /** The opinions times their trust, added up, over the item indices; null without any. */
  bias: Float32Array | null;
}

/** A curve's value at an age. */
export function atAge(ages: readonly number[], curve: readonly number[], age: number): number {
  const next = ages.findIndex((one) => one > age);
  if (next < 0) return curve.at(-1)!;
  const [young, old, high, low] = [ages[next - 1]!, ages[next]!, curve[next - 1]!, curve[next]!];
  return high + ((low - high) / (old - young)) * (age - young);
}

/** A theta that passed every check. */
export class Theta {
  private aged: Aged | null = null;

  constructor(
    readonly values: Float32Array,
    readonly opinions: readonly ItemBias[],
    readonly answer: ParametersAnswer,
    readonly origin: Origin,
  ) {}

  /** What counts of it when the device has observed so many events; made once for each age. */
  at(model: Model, events: number): Aged {
    const age = Math.max(0, events - this.origin.events);
    if (this.aged?.age === age) return this.aged;
    const { trust, vocabulary } = model.manifest;
    const weightsTrust = atAge(trust.ages, trust.weights, age);
    const opinionsTrust = trust.opinions.map((curve) => atAge(trust.ages, curve, age));
    const before = this.aged;
    if (before?.weightsTrust === weightsTrust && before.opinionsTrust.join() === opinionsTrust.join())
      return (this.aged = { ...before, age });
    const same = weightsTrust === 1 || this.values === model.zeros;
    const bias = this.opinions.length ? new Float32Array(vocabulary) : null;
    this.opinions.forEach(({ items, values }, which) =>
      items.forEach((item, at) => (bias![item]! += Math.fround(opinionsTrust[which]!) * values[at]!)),
    );
    const values = same ? this.values : this.values.map((value) => value * Math.fround(weightsTrust));
    return (this.aged = { age, weightsTrust, opinionsTrust, values, bias });
  }
}

export class ParameterStore {
  private readonly codec: ThetaCodec;
  current: Theta | null = null;
  /** How often theta was forgotten; an answer to a question of before is not taken. */
  cleared = 0;

  constructor(
    readonly model: Model,
    private readonly state: State,
    private readonly token: string,
    private readonly device: string,
    private readonly grace: number,
  ) {
    this.codec = new ThetaCodec(model.manifest.layout.map(({ shape }) => shape));
  }

  private get name(): string {
    return `theta/${this.model.id}`;
  }

  /** The theta of an answer that may be used now, by itself. */
  async check(answer: ParametersAnswer, from: Origin, nowMs: number): Promise<Theta> {
    const refuse = (reason: Reason, why: string): never => {
      throw new RefusedParametersError(reason, why);
    };
    const { manifest, zeros } = this.model;
    if (answer.model_id !== this.model.id) refuse("wrong-model", `theta is for the model ${answer.model_id.slice(0, 16)}`);
    if (!(await verifyAnswer(this.token, this.device, answer)))
      refuse("wrong-mac", "theta's code is wrong: it was changed, or is another device's");
    if (!answer.theta.length && !answer.bias.length) refuse("malformed", "theta holds neither weights nor an item bias");
    const weights = answer.theta.length || answer.scale.length;
    const values = weights ? this.codec.decode(answer.scale, answer.theta, answer.dtype) : zeros;
    const most = manifest.opinions.map((opinion) => opinion.items);
    const opinions = answer.bias.length ? decodeBias(answer.bias, manifest.vocabulary, most) : [];
    const bounded =
      within(values, manifest.layout) &&
      opinions.every(({ values: one }, at) => one.every((value) => value <= manifest.opinions[at]!.bound * SLACK));
    if (!bounded) refuse("out-of-bounds", "theta is larger than the bundle's bounds allow");
    if (answer.issued > nowMs + MAX_CLOCK_SKEW_MS) refuse("from-future", "theta was issued in the future");
    if (this.expired(answer, nowMs)) refuse("expired", "theta has expired");
    return new Theta(values, opinions, answer, from);
  }

  private expired(answer: ParametersAnswer, nowMs: number): boolean {
    return answer.expires + this.grace * 1000 < nowMs;
  }

  /** Check a fresh answer, use it, and keep it. A sequence must grow, unless the theta at hand can no longer be used. */
  async accept(answer: ParametersAnswer, from: Origin, nowMs: number, cleared: number): Promise<Theta> {
    const theta = await this.check(answer, from, nowMs);
    if (cleared !== this.cleared) throw new RefusedParametersError("forgotten", "theta was made from what is forgotten");
    const held = this.usable(nowMs);
    if (held && answer.sequence <= held.answer.sequence)
      throw new RefusedParametersError("older", `theta has the sequence ${answer.sequence}, the device has ${held.answer.sequence}`);
    this.current = theta;
    await this.state.set(this.name, { answer, origin: from });
    return theta;
  }

  /** Whether there is a theta that shall not be replaced for its age alone, counted from when it came. */
  fresh(now: number): boolean {
    if (!this.current) return false;
    const { answer, origin: from } = this.current;
    const passed = now - from.received;
    return passed >= 0 && passed < (answer.expires - answer.issued) / 1000;
  }

  /** The theta to rank with now. */
  usable(nowMs: number): Theta | null {
    return this.current && !this.expired(this.current.answer, nowMs) ? this.current : null;
  }

  drop(theta: Theta): void {
    if (this.current === theta) {
      this.current = null;
      void this.state.delete(this.name);
    }
  }

  clear(): void {
    this.cleared++;
    this.current = null;
  }

  /** Take what was kept, if it passes every check of a fresh answer. */
  async load(nowMs: number): Promise<void> {
    const { cleared } = this;
    try {
      const found = kept(await this.state.get(this.name), "");
      if (found.origin.history.some((item) => item >= this.model.manifest.vocabulary)) return;
      const theta = await this.check(found.answer, found.origin, nowMs);
      const newer = !this.current || theta.answer.sequence > this.current.answer.sequence;
      if (newer && cleared === this.cleared) this.current = theta;
    } catch {
      // There is none, or it was damaged: begins with theta = 0.
    }
  }
}

function within(values: Float32Array, layout: readonly { shape: number[]; bound: number }[]): boolean {
  let at = 0;
  return layout.every(({ shape, bound }) => {
    const most = Math.fround(Math.fround(bound) * Math.fround(SLACK));
    const end = at + product(shape);
    for (; at < end; at++) if (Math.abs(values[at]!) > most) return false;
    return true;
  });
}

