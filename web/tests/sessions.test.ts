/** What devices live through, as Python wrote it down: scores to 1e-4, orders exactly, with both engines. */
import { pathToFileURL } from "node:url";
import { createRequire } from "node:module";
import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { unhex } from "../src/bytes";
import type { Cloud } from "../src/client";
import { answerMessage } from "../src/answers";
import { LocalDevice, type Ranked } from "../src/local";
import type { ParametersAnswer } from "../src/answers";
import { loadModel } from "../src/model";
import { driftOf } from "../src/drift";
import type { Policy } from "../src/policy";
import type { DeviceOptions } from "../src/options";
import { answerOf, BUNDLES, bundleFiles, jsonOf, sourceOf } from "./golden";

const { device: DEVICE, token: TOKEN, now: NOW, sessions } = jsonOf("sessions.json");
const KEYS = jsonOf("wire.json").keys;
const ORT = pathToFileURL(createRequire(import.meta.url).resolve("onnxruntime-web")).href;
const TOLERANCE = 1e-4;

/** A cloud that has one bundle, and gives the answer that was put there. */
class PutCloud implements Cloud {
  answer!: ParametersAnswer;
  make: (() => ParametersAnswer) | null = null;
  constructor(private readonly name: string) {}
  private get files() {
    return bundleFiles(this.name);
  }
  parameters = async () => this.make?.() ?? this.answer;
  models = async () => ({ latest: JSON.parse(new TextDecoder().decode(this.files["manifest.json"])).model_id });
  version = () => async (name: string) => this.files[name]!;
  close = () => undefined;
}

const open = (cloud: Cloud, now: () => number, options: Partial<DeviceOptions> = {}): Promise<LocalDevice> =>
  LocalDevice.open({ cloud, token: TOKEN, deviceId: DEVICE, state: null, background: false, clock: now, ...options });

function same(found: Ranked[], expected: Ranked[]): void {
  expect(found.map(([id]) => id)).toEqual(expected.map(([id]) => id));
  found.forEach(([, score], at) => {
    const wanted = expected[at]![1];
    if (wanted < -1e30) expect(score).toBe(Math.fround(wanted));
    else expect(Math.abs(score - wanted)).toBeLessThan(TOLERANCE * Math.max(1, Math.abs(wanted)));
  });
}

describe.each(["plain", "ort"] as const)("with the engine %s", (engine) => {
  test.each(sessions as any[])("$bundle, met $options.met", async ({ bundle, options, steps }) => {
    let now = NOW;
    const cloud = new PutCloud(bundle);
    const device = await open(cloud, () => now, { ...options, engine, ort: engine === "ort" ? ORT : null });
    expect((await device.status()).engine).toBe(engine);
    for (const step of steps) {
      if (step.do === "observe") await device.observe(...step.items);
      else if (step.do === "clock") now = step.now;
      else if (step.do === "forget") await device.forget();
      else if (step.do === "recommend") same(await device.recommend(step.k, { met: step.met }), step.ranking);
      else if (step.do === "rank") same(await device.rank(step.candidates, { met: step.met }), step.ranking);
      else if (step.do === "answer") {
        cloud.answer = answerOf(step.answer);
        const before = (await device.status()).refused;
        const good = await device.refresh();
        const after = (await device.status()).refused;
        const changed = Object.keys(after).filter((name) => after[name] !== before[name]);
        expect(good ? ["accepted"] : changed).toEqual([step.gives]);
      } else {
        const status = await device.status();
        const wanted = step.status;
        expect(status).toMatchObject({
          source: wanted.source,
          events: wanted.events,
          unknownEvents: wanted.unknown_events,
          unknownCandidates: wanted.unknown_candidates,
          refused: wanted.refused,
        });
        if (!wanted.theta) expect(status.theta).toBe(null);
        else {
          const { sequence, age_events, weights_bytes, weights_trust, bias_bytes, opinions_trust } = wanted.theta;
          expect(status.theta).toMatchObject({ sequence, ageEvents: age_events, weightsBytes: weights_bytes, biasBytes: bias_bytes });
          expect(status.theta!.weightsTrust).toBeCloseTo(weights_trust, 9);
          opinions_trust.forEach((one: number, at: number) => expect(status.theta!.opinionsTrust[at]).toBeCloseTo(one, 9));
        }
      }
    }
    await device.close();
  });
});

test("all bundles run on the plain engine, without onnxruntime-web", async () => {
  for (const name of BUNDLES) {
    const model = await loadModel(sourceOf(name), null, { engine: "auto", ort: null });
    expect(model.engine.name).toBe("plain");
  }
});

describe("policies", () => {
  const told = jsonOf("policies.json");
  const key = unhex(KEYS.find(({ token }: { token: string }) => token === TOKEN).key);

  test.each(told.asks as { policy: Policy; asks: number[] }[])("asks at the same events: $policy.kind", async ({ policy, asks }) => {
    let now = told.start;
    const cloud = new PutCloud(told.bundle);
    const device = await open(cloud, () => now, { policy });
    const { modelId } = await device.status();
    const first = answerOf(sessions[0].steps.find((step: { do: string }) => step.do === "answer").answer);
    cloud.make = () => {
      const issued = Math.floor(now * 1000);
      const answer = { ...first, model_id: modelId, sequence: now, issued, expires: issued + 3_600_000 };
      return { ...answer, mac: new Uint8Array(createHmac("sha256", key).update(answerMessage(DEVICE, answer)).digest()) };
    };
    const asked: number[] = [];
    for (const [at, item] of told.events.entries()) {
      now += 60;
      await device.observe(item);
      if (await device.keepUp()) asked.push(at + 1);
    }
    expect(asked).toEqual(asks);
    await device.close();
  });

  test("drift is what it is in Python", async () => {
    const { profiles } = await loadModel(sourceOf(told.bundle), null, { engine: "plain", ort: null });
    for (const { history, made_from: madeFrom, decay, drift } of told.drifts)
      expect(await driftOf({ history, madeFrom, profiles, hasTheta: true, events: 1, seconds: 0, requestsToday: 0 }, decay)).toBeCloseTo(drift, 3);
  });
});
