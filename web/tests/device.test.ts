/** What a device survives: storage, clouds and bundles that are not what they should be. */
import "fake-indexeddb/auto";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { hex } from "../src/bytes";
import { type Files, openBundle, type Source } from "../src/bundle";
import { type Cloud, httpCloud } from "../src/client";
import { retryAfter } from "../src/cloud-refusal";
import { LocalDevice as OfSources } from "../src/device";
import { CloudRefusedError, DuetError, LocalDevice } from "../src/local";
import { EventLog } from "../src/log";
import type { DeviceOptions } from "../src/options";
import type { Situation } from "../src/policy";
import { openState } from "../src/state";
import { answerOf, BUNDLES, bundleFiles, jsonOf } from "./golden";

const { device: DEVICE, token: TOKEN, now: NOW, sessions } = jsonOf("sessions.json");
const PUBLIC = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
const [GOOD] = sessions[0].steps.filter((step: { do: string }) => step.do === "answer");

const from =
  (files: Files): Source =>
  async (name) =>
    files[name];

class FakeCloud implements Cloud {
  files: Files = bundleFiles("sasrec");
  latest = jsonOf("bundles/sasrec/manifest.json").model_id as string;
  failing: Error | null = null;
  asked = 0;
  answer = answerOf(GOOD.answer);
  async parameters() {
    this.asked++;
    if (this.failing) throw this.failing;
    return this.answer;
  }
  async models() {
    if (this.failing) throw this.failing;
    return { latest: this.latest };
  }
  version() {
    return async (name: string) => this.files[name]!;
  }
  close(): void {}
}

let name = 0;
let cloud: FakeCloud;
let now: number;
const open = (options: Partial<DeviceOptions> = {}): Promise<LocalDevice> =>
  LocalDevice.open({ cloud, token: TOKEN, deviceId: DEVICE, state: `test-${name}`, background: false, clock: () => now, ...options });
const code = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "",
    (cause: DuetError) => cause.code,
  );

beforeEach(() => {
  name++;
  now = NOW;
  cloud = new FakeCloud();
});

describe("a bundle", () => {
  test.each(BUNDLES)("%s with any byte of any file changed is refused", async (bundle) => {
    const files = bundleFiles(bundle);
    await openBundle(from(files), [PUBLIC], null);
    for (const [file, content] of Object.entries(files))
      for (let at = 0; at < content.length; at += Math.ceil(content.length / 7)) {
        const changed = content.slice();
        changed[at]! ^= 1;
        await expect(openBundle(from({ ...files, [file]: changed }), [PUBLIC], null), `${file} ${at}`).rejects.toMatchObject({ name: "DuetError" });
      }
  });

  test("of another key, without a file, or cut is refused", async () => {
    const files = bundleFiles("ties");
    expect(await code(openBundle(from(files), [hex(new Uint8Array(32))], null))).toBe("invalid-bundle");
    for (const file of Object.keys(files)) {
      const { [file]: gone, ...rest } = files;
      expect(await code(openBundle(from(rest), null, null))).toBe("invalid-bundle");
      expect(await code(openBundle(from({ ...files, [file]: gone!.slice(0, -1) }), null, null))).toBe("invalid-bundle");
    }
  });
});

describe("storage", () => {
  test("keeps log, theta, version and id; a second start asks the cloud for nothing", async () => {
    const device = await open({ deviceId: DEVICE });
    await device.observe("i0", "i1");
    expect(await device.refresh()).toBe(true);
    const before = await device.recommend(5);
    await device.close();
    cloud.failing = new DuetError("cloud-unreachable", "gone");
    const again = await open();
    expect(await again.recommend(5)).toEqual(before);
    expect((await again.status()).theta?.sequence).toBe(1);
    expect(await again.events()).toEqual(["i0", "i1"]);
    await again.close();
  });

  test("is read by another build", async () => {
    const device = await open({ deviceId: null });
    await device.observe("i0", "i1");
    await device.refresh();
    const before = await device.status();
    await device.close();
    const state = await openState(`test-${name}`);
    const names = (value: unknown): string[] => Object.keys(value as object).sort();
    expect(names(await state.get("versions"))).toEqual(["current", "key", "previous", "refused"]);
    expect(names(await state.get("requests"))).toEqual(["day", "requests"]);
    await state.close();
    cloud.failing = new DuetError("cloud-unreachable", "gone");
    const again = await OfSources.open({ cloud, token: TOKEN, state: `test-${name}`, background: false, clock: () => now });
    const { device: id, events, modelId, requestsToday } = await again.status();
    expect([id, events, modelId, requestsToday]).toEqual([before.device, before.events, before.modelId, 1]);
    await again.close();
  });

  test("that is changed is not believed", async () => {
    const device = await open();
    await device.observe("i0");
    await device.refresh();
    const { modelId } = await device.status();
    await device.close();
    const state = await openState(`test-${name}`);
    const kept = (await state.get(`theta/${modelId}`)) as { answer: { theta: Uint8Array } };
    kept.answer.theta[0]! ^= 1;
    await state.put({ [`theta/${modelId}`]: kept });
    await state.put({ [`requests`]: "many" });
    await state.close();
    const again = await open();
    expect([(await again.status()).source, (await again.status()).requestsToday]).toEqual(["global", 0]);
    await again.close();
    const files = await openState(`test-${name}`);
    await files.put({ [`file/${modelId}/device.onnx`]: new Uint8Array(3) });
    await files.close();
    const third = await open();
    expect((await third.status()).modelId).toBe(modelId);
    await third.close();
  });

  test("that is forbidden costs persistence alone", async () => {
    const real = globalThis.indexedDB;
    Object.defineProperty(globalThis, "indexedDB", {
      configurable: true,
      get: () => {
        throw new DOMException("forbidden", "SecurityError");
      },
    });
    try {
      const device = await open();
      await device.observe("i0");
      expect(await device.refresh()).toBe(true);
      const status = await device.status();
      expect([status.source, status.diskErrors > 0]).toEqual(["theta", true]);
      expect(await code(device.forget())).toBe("not-forgotten");
      expect((await device.status()).source).toBe("global");
      await device.close();
    } finally {
      Object.defineProperty(globalThis, "indexedDB", { configurable: true, value: real });
    }
  });

  test("is empty after forget, and an answer on its way is not taken", async () => {
    const device = await open();
    await device.observe("i0");
    await device.refresh();
    let answer!: () => void;
    cloud.parameters = () => new Promise((resolve) => (answer = () => resolve({ ...cloud.answer, sequence: 2 })));
    const asked = device.refresh();
    await expect.poll(() => answer).toBeTypeOf("function");
    await device.forget();
    answer();
    expect(await asked).toBe(false);
    await device.close();
    const state = await openState(`test-${name}`);
    expect([await state.events(10), (await state.keys()).filter((key) => key.startsWith("theta/"))]).toEqual([[[], 0], []]);
    await state.close();
  });

  test("keeps no more events than a log holds", async () => {
    const state = await openState(`test-${name}`);
    for (let at = 0; at < 7; at++) await state.append([`a${at}`, `b${at}`], 4);
    const [kept, ever] = await state.events(4);
    expect([kept, ever]).toEqual([["a5", "b5", "a6", "b6"], 14]);
    await state.close();
  });
});

describe("versions", () => {
  test("a damaged new one is refused, remembered for a day, and tried again after", async () => {
    const device = await open();
    const { modelId } = await device.status();
    cloud.files = { ...bundleFiles("din"), "items.json": bundleFiles("din")["items.json"]!.slice(1) };
    cloud.latest = jsonOf("bundles/din/manifest.json").model_id;
    expect(await device.update()).toBe(false);
    expect((await device.status()).failures).toEqual({ "update-invalid-bundle": 1 });
    expect(Object.keys((await device.status()).refusedVersions)).toEqual([cloud.latest]);
    cloud.files = bundleFiles("din");
    expect(await device.update()).toBe(false);
    expect((await device.status()).modelId).toBe(modelId);
    now += 86_401;
    expect(await device.update()).toBe(true);
    expect([(await device.status()).modelId, (await device.status()).previous]).toEqual([cloud.latest, modelId]);
    expect(await device.rollback()).toBe(modelId);
    expect(await device.update()).toBe(false);
    expect(await code(device.rollback())).toBe("nothing-to-roll-back");
    await device.close();
  });

  test("the one before is kept, however soon the next comes", async () => {
    const device = await open();
    const { modelId } = await device.status();
    cloud.files = bundleFiles("din");
    cloud.latest = jsonOf("bundles/din/manifest.json").model_id;
    expect(await device.update()).toBe(true);
    await device.close();
    const again = await open();
    expect(await again.rollback()).toBe(modelId);
    await again.close();
  });

  test.each([false, true])("the one before is kept, whoever adopts the same new one meanwhile: another tab %s", async (tab) => {
    const device = await open();
    const other = tab ? await open() : device;
    const { modelId } = await device.status();
    cloud.files = bundleFiles("din");
    cloud.latest = jsonOf("bundles/din/manifest.json").model_id;
    await Promise.all([device.update(), other.update()]);
    for (const one of [device, other]) {
      const status = await one.status();
      expect([status.modelId, status.previous]).toEqual([cloud.latest, modelId]);
    }
    expect(await device.rollback()).toBe(modelId);
    for (const one of [device, other]) await one.close();
  });

  test("are looked for at once when told, and by itself never where that is infinitely far", async () => {
    const device = await open({ updateSeconds: Infinity });
    vi.spyOn(performance, "now").mockReturnValue(performance.now() + 1e9);
    cloud.files = bundleFiles("din");
    cloud.latest = jsonOf("bundles/din/manifest.json").model_id;
    await device.keepUp();
    expect((await device.status()).modelId).not.toBe(cloud.latest);
    expect(await device.update()).toBe(true);
    vi.restoreAllMocks();
    await device.close();
  });

  test("what is forgotten while a new one is adopted is in no theta of it", async () => {
    const device = await open();
    await device.observe("i0");
    cloud.files = bundleFiles("din");
    cloud.latest = jsonOf("bundles/din/manifest.json").model_id;
    const { steps } = sessions.find(({ bundle }: { bundle: string }) => bundle === "din");
    const { answer } = steps.find(({ gives }: { gives?: string }) => gives === "accepted");
    let send!: () => void;
    cloud.parameters = () => new Promise((resolve) => (send = () => resolve(answerOf(answer))));
    const updated = device.update();
    await expect.poll(() => send).toBeTypeOf("function");
    await device.forget();
    send();
    expect(await updated).toBe(true);
    const { modelId, refused, source } = await device.status();
    expect([modelId, refused, source]).toEqual([cloud.latest, { forgotten: 1 }, "global"]);
    await device.close();
  });

  test("by another key than that of the first is refused", async () => {
    const device = await open({ trusted: null });
    await device.close();
    expect(await code(open({ state: null, trusted: ["00".repeat(32)] }))).toBe("invalid-bundle");
  });
});

test("a cloud that fails is asked less and less often, by day counted", async () => {
  const device = await open({ random: () => 0.5 });
  await device.observe("i0");
  cloud.failing = new DuetError("cloud-unreachable", "gone");
  expect([await device.keepUp(), await device.keepUp()]).toEqual([true, false]);
  expect((await device.status()).nextTrySeconds).toBeGreaterThan(0);
  expect((await device.status()).failures).toEqual({ "cloud-unreachable": 1 });
  expect((await device.status()).requestsToday).toBe(1);
  await device.close();
});

test("a network that is there again ends the back-off, and not the wait that the cloud asked for", async () => {
  const device = await open({ state: null, policy: { kind: "Always" }, patience: { first: 1000, longest: 1000 }, random: () => 0.5 });
  await device.observe("i0");
  cloud.failing = new DuetError("cloud-unreachable", "gone");
  const asks = [await device.keepUp(), await device.keepUp()];
  await device.setOffline(false);
  asks.push(await device.keepUp());
  cloud.failing = new CloudRefusedError(503, "", "busy", "", 500);
  await device.setOffline(false);
  asks.push(await device.keepUp());
  await device.setOffline(false);
  asks.push(await device.keepUp());
  expect(asks).toEqual([true, false, true, true, false]);
  expect((await device.status()).nextTrySeconds).toBeGreaterThan(490);
  await device.close();
});

test("a policy of one's own decides, by what it is told", async () => {
  let told: object = {};
  const due = (situation: Situation): boolean => Object.keys((told = situation)).length > 0 && situation.events >= 2;
  const device = await open({ state: null, policy: { due } });
  const asked: boolean[] = [];
  for (const item of ["i0", "i1"]) {
    await device.observe(item);
    asked.push(await device.keepUp());
  }
  expect(asked).toEqual([false, true]);
  const names = ["events", "hasTheta", "history", "madeFrom", "profiles", "requestsToday", "seconds"];
  expect(Object.keys(told).sort()).toEqual(names);
  await device.close();
});

test("what cannot work is refused when a device is opened, or called", async () => {
  for (const bad of [
    { cloud: "ftp://x" },
    { cloud: "https://a:b@x" },
    { cloud: "https://x?y" },
    { cloud: null },
    { token: "a b" },
    { deviceId: "" },
    { trusted: ["key"] },
    { encoding: "float64" },
    { policy: { kind: "EveryEvents", n: -1 } },
    { policy: { kind: "DailyBudget", n: 1, policy: { kind: "Never" } } },
    { grace: -1 },
    { patience: { failures: 0 } },
    { patience: { failures: 2.5 } },
    { patience: { cooldown: -1 } },
    { patience: 5 },
    { colour: "red" },
  ])
    expect(await code(open(bad as object)), JSON.stringify(bad)).toBe("invalid-device-config");
  const device = await open();
  expect(await code(device.observe("a", 1.5))).toBe("invalid-items");
  expect(await device.events()).toEqual([]);
  expect(await code(device.rank("abc"))).toBe("invalid-items");
  expect(await code(device.recommend(1.5))).toBe("invalid-items");
  expect(await code(device.recommend(1, { met: "no" as never }))).toBe("invalid-device-config");
  expect(await device.recommend(-1)).toEqual([]);
  expect(await device.rank([])).toEqual([]);
  await device.close();
});

test("titles of some ids, and of the catalogue", async () => {
  const device = await open({ state: null });
  const all = await device.items();
  const { ids, titles } = jsonOf("bundles/sasrec/items.json");
  expect(all).toEqual(ids.slice(2).map((id: string, at: number) => ({ id, title: titles[at + 2] ?? "" })));
  expect(await device.items([all[3]!.id, "nothing", all[0]!.id])).toEqual([all[3], all[0]]);
  await device.close();
});

test("one question at a time, whoever asks", async () => {
  const device = await open({ state: null });
  await device.observe("i0");
  let [now, most] = [0, 0];
  cloud.parameters = async () => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 5));
    now--;
    return cloud.answer;
  };
  await Promise.all([device.refresh(), device.refresh(), device.keepUp(), device.refresh()]);
  expect(most).toBe(1);
  await device.close();
});

test("events that come at once are kept once, also in a storage that is still being made", async () => {
  const device = await open();
  await Promise.all([device.observe("i0"), device.observe("i1", "i2"), device.observe("i3")]);
  await device.observe("i4");
  await device.close();
  const again = await open();
  expect(await again.events()).toEqual(["i0", "i1", "i2", "i3", "i4"]);
  expect((await again.status()).events).toBe(5);
  await again.close();
});

test("a day's budget holds for all tabs together", async () => {
  const policy = { kind: "DailyBudget", n: 2, policy: { kind: "Always" } } as const;
  const tabs = [await open({ policy }), await open({ policy }), await open({ policy })];
  cloud.failing = new DuetError("cloud-unreachable", "gone");
  for (const tab of tabs) {
    await tab.observe("i0");
    await tab.keepUp();
  }
  expect(cloud.asked).toBe(2);
  for (const tab of tabs) await tab.close();
});

test("the log forgets the oldest, and what is no longer in it is not met", () => {
  const log = new EventLog(3);
  log.append(["a", "b", "a", "c"]);
  expect([log.last(9), log.count, log.has("a"), log.has("b")]).toEqual([["b", "a", "c"], 4, true, true]);
  log.append(["c", "x".repeat(513)]);
  expect([log.last(9), log.has("a"), log.has("b")]).toEqual([["c", "c", ""], false, false]);
});

test("Retry-After is a number or a date", () => {
  expect([retryAfter("7"), retryAfter("-1"), retryAfter(null), retryAfter("soon")]).toEqual([7, 0, null, null]);
  expect(retryAfter(new Date(Date.now() + 60_000).toUTCString())).toBeGreaterThan(50);
});

test("over HTTP: refusals, endless answers and what is no answer", async () => {
  const { createServer } = await import("node:http");
  const answers: Record<string, (send: import("node:http").ServerResponse) => void> = {
    busy: (send) => send.writeHead(503, { "retry-after": "9" }).end("busy"),
    endless: (send) => {
      send.writeHead(200);
      const timer = setInterval(() => send.write(Buffer.alloc(2 ** 20)), 1);
      send.on("close", () => clearInterval(timer));
    },
    nonsense: (send) => send.writeHead(200).end("nonsense"),
    moved: (send) => send.writeHead(302, { location: "/" }).end(),
    silent: () => undefined,
    broken: (send) => void send.socket!.destroy(),
  };
  /** A tar file that goes on for ever. */
  const archive = (send: import("node:http").ServerResponse): void => {
    const head = Buffer.alloc(512);
    head.write("f");
    head.write("00000000004", 124);
    send.writeHead(200).write(Buffer.concat([head, Buffer.from("file"), Buffer.alloc(508), head]));
  };
  let how = "busy";
  const server = createServer((question, send) => {
    question.resume();
    (answers[how] ?? archive)(send);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as import("node:net").AddressInfo).port}`;
  const there = httpCloud(url, TOKEN, 1);
  const found: Record<string, string> = {};
  for (how of Object.keys(answers)) found[how] = await code(there.models(DEVICE));
  expect(found).toEqual({
    busy: "cloud-refused",
    endless: "bad-answer",
    nonsense: "bad-answer",
    moved: "cloud-unreachable",
    silent: "cloud-unreachable",
    broken: "cloud-unreachable",
  });
  how = "busy";
  await expect(there.models(DEVICE)).rejects.toMatchObject({ status: 503, retryAfter: 9 });
  how = "endless";
  expect(await code(there.version("m", DEVICE)("f", 9))).toBe("bad-answer");
  how = "nonsense";
  expect(await code(there.version("m", DEVICE)("f", 9))).toBe("bad-answer");
  // A file whose length may not be known yet: it is not read if its manifest turns out to be bad, nor beyond the length.
  how = "archive";
  let ended = 0;
  server.on("request", (_, send) => send.on("close", () => ended++));
  const refused = Promise.reject(new DuetError("invalid-bundle", "bad"));
  refused.catch(() => undefined);
  const [one, other, third] = ["a", "b", "c"].map((id) => there.version(id, DEVICE)) as [Source, Source, Source];
  expect(await code(one("f", refused))).toBe("invalid-bundle");
  expect(await code(other("f", Promise.resolve(3)))).toBe("bad-answer");
  expect(Buffer.from((await third("f", 4)) as Uint8Array).toString()).toBe("file");
  expect(await code(third("g", 4))).toBe("bad-answer");
  await expect.poll(() => ended).toBe(3);
  server.closeAllConnections();
  server.close();
});
