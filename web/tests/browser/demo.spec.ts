/** The demo page in a real browser, against a real cloud. */
import AxeBuilder from "@axe-core/playwright";
import { expect, type Page, test } from "@playwright/test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Device, Status } from "../../src/index";
import { Cloud, Way } from "./cloud";

const SHOTS = process.env.DUET_SHOTS;
declare const duetDevice: Device;

let cloud: Cloud;
let way: Way;
let trouble: string[] = [];
const strangers: string[] = [];

test.beforeAll(async () => {
  cloud = await new Cloud().start();
});
test.afterAll(() => cloud.remove());
test.beforeEach(async ({ context }) => {
  way = await new Way(() => cloud.url).open();
  trouble = [];
  context.on("weberror", (error) => trouble.push(String(error.error())));
  context.on("console", (line) => line.type() === "error" && !/Failed to load resource|ERR_/.test(line.text()) && trouble.push(line.text()));
  context.on("request", (request) => new URL(request.url()).origin !== way.url && strangers.push(request.url()));
});
test.afterEach(() => {
  way.close();
  expect(trouble).toEqual([]);
  expect(strangers).toEqual([]);
});

async function visit(page: Page, query = ""): Promise<void> {
  await page.goto(`${way.url}/demo/${query}`);
  await expect(page.locator("#global li").first()).toBeVisible();
}
const status = (page: Page): Promise<Status> => page.evaluate(() => duetDevice.status());
const own = (page: Page): Promise<string[]> => page.locator("#own li button").allTextContents();
const everyone = (page: Page): Promise<string[]> => page.locator("#global li button").allTextContents();
const watch = async (page: Page, count: number): Promise<void> => {
  for (let at = 0; at < count; at++) await page.locator("#picks button").nth(at).click();
};
const answered = (page: Page, count: number): Promise<void> =>
  expect.poll(async () => (await status(page)).answered).toBe(count);

/** One after the other, each answered: two events at once may be told in one request. */
async function watchEach(page: Page, count: number): Promise<void> {
  const before = (await status(page)).answered;
  for (let at = 0; at < count; at++) {
    await page.locator("#picks button").nth(at).click();
    await answered(page, before + at + 1);
  }
}

async function scan(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map(({ id, nodes }) => [id, nodes.map(({ target, failureSummary }) => [target, failureSummary])])).toEqual([]);
}
const shoot = async (page: Page, name: string): Promise<void> => {
  if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
};

test("first visit: two rankings that agree, nothing from elsewhere, and no violation of accessibility", async ({ page }) => {
  await visit(page);
  expect(await own(page)).toEqual(await everyone(page));
  expect(await page.locator("#own li").count()).toBe(10);
  const policy = (await page.request.get(`${way.url}/demo/`)).headers()["content-security-policy"];
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
  await scan(page);
  expect((await status(page)).engine).toBe("plain");
});

test("the ranking moves after clicks, and shows what each answer cost", async ({ page }) => {
  await visit(page);
  await watch(page, 1);
  await answered(page, 1);
  await watch(page, 3);
  await expect.poll(async () => (await status(page)).theta?.ageEvents).toBe(0);
  await expect(page.locator("#own .moves").first()).toBeVisible();
  expect(await own(page)).not.toEqual(await everyone(page));
  const cells = await page.locator("#asked tr").first().locator("td").allTextContents();
  expect(cells[0]).toMatch(/^\d+ B$/);
  expect(cells[1]).toMatch(/B$/);
  expect(cells[2]).toMatch(/^0\.\d\d|^\d/);
  await expect(page.locator("#theta")).toHaveAttribute("aria-label", /weights/);
  await expect(page.locator("#met-about")).toContainText("3 that you watched");
});

test.describe("at each size and in each light", () => {
  for (const [size, viewport] of [["phone", { width: 360, height: 780 }], ["desktop", { width: 1280, height: 900 }]] as const)
    for (const colorScheme of ["light", "dark"] as const)
      test(`${size}, ${colorScheme}: nothing is cut, nothing violates accessibility`, async ({ browser }) => {
        const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
        const page = await context.newPage();
        await visit(page);
        await watch(page, 4);
        // An id may be long, and have no blanks: an address, say.
        await page.evaluate(() => duetDevice.observe("x".repeat(400)));
        await expect(page.locator("#met-about")).toContainText("xxx");
        await expect.poll(async () => (await status(page)).theta?.ageEvents).toBe(0);
        await expect(page.locator("#asked th").first()).toHaveText("newest");
        await scan(page);
        expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
        expect(await page.locator("h2").evaluateAll((all) => all.filter((one) => one.scrollWidth > one.clientWidth))).toEqual([]);
        const tops = await page.locator(".ranking").evaluateAll((all) => all.map((one) => one.getBoundingClientRect().top));
        expect(tops[0]).toBe(tops[1]);
        await shoot(page, `demo-${size}-${colorScheme}`);
        await context.close();
      });
});

test("what is typed before the catalogue is here is looked up when it comes", async ({ page }) => {
  await page.addInitScript(() => {
    const post = Worker.prototype.postMessage;
    const later: (() => void)[] = [];
    Object.assign(globalThis, { letItemsPass: () => later.splice(0).forEach((pass) => pass()) });
    Worker.prototype.postMessage = function (this: Worker, message: { method: string; values: unknown[] }) {
      if (message.method === "items" && !message.values.length) later.push(() => post.call(this, message));
      else post.call(this, message);
    } as typeof post;
  });
  await visit(page);
  await page.locator("#search").fill("a");
  expect(await page.locator("#found").textContent()).toBe("");
  await page.evaluate(() => (globalThis as unknown as { letItemsPass(): void }).letItemsPass());
  await expect(page.locator("#found")).toContainText("found");
  const titles = await page.locator("#picks button").allTextContents();
  expect(titles.length).toBeGreaterThan(0);
  expect(titles.filter((title) => !title.toLowerCase().includes("a"))).toEqual([]);
});

test("by keyboard alone: choose from a ranking, and stay at its place when it is drawn anew", async ({ page }) => {
  await visit(page);
  const third = page.locator("#own li button").nth(2);
  const title = await third.textContent();
  await third.focus();
  await page.keyboard.press("Enter");
  await answered(page, 1);
  await expect(page.locator("#watched")).toContainText(title!);
  await expect(third).toBeFocused();
  expect(await own(page)).not.toContain(title);
});

test("by keyboard alone: search, watch, and move the policy, which asks at every third event then", async ({ page }) => {
  await visit(page);
  await page.locator("#search").focus();
  await page.keyboard.type("a");
  await expect(page.locator("#found")).toContainText("found");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await answered(page, 1);
  await page.locator("#policy").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await expect(page.locator("#policy-says")).toHaveText("every 3 events");
  for (const [events, asked] of [[1, 1], [2, 1], [3, 2]] as const) {
    await page.locator("#picks button").nth(events).click();
    await expect.poll(async () => (await status(page)).events).toBe(events + 1);
    await answered(page, asked);
  }
});

test("offline and back: a reload without a network ranks with theta, and later it asks again", async ({ page }) => {
  await visit(page);
  await watch(page, 1);
  await answered(page, 1);
  await page.evaluate(async () => void (await navigator.serviceWorker.ready));
  way.cut = true;
  await page.reload();
  await expect(page.locator("#own li")).toHaveCount(10);
  const before = await status(page);
  expect([before.source, before.theta?.ageEvents]).toEqual(["theta", 0]);
  await page.locator("#picks button").nth(3).click();
  await expect.poll(async () => Object.keys((await status(page)).failures)).toContain("cloud-unreachable");
  await expect(page.locator("#state")).toContainText("no connection");
  expect(await page.locator("#own li").count()).toBe(10);
  way.cut = false;
  await expect.poll(async () => (await status(page)).answered).toBe(1);
  expect((await status(page)).lastError).toBe("");
});

test("the switch for offline, with the cloud at hand", async ({ page }) => {
  await visit(page);
  await page.locator("#offline").click();
  await watch(page, 1);
  await expect.poll(async () => (await status(page)).failures["cloud-unreachable"]).toBeGreaterThan(0);
  expect(way.asked).toBe(0);
  await page.locator("#offline").click();
  await answered(page, 1);
});

test("the cloud goes while the page is open: it ranks on, backs off, and asks when the cloud is back", async ({ page }) => {
  await visit(page);
  await page.evaluate(async () => void (await navigator.serviceWorker.ready));
  way.cut = true;
  await watch(page, 2);
  await expect.poll(async () => (await status(page)).failures["cloud-unreachable"]).toBeGreaterThan(0);
  expect(await page.locator("#own li").count()).toBe(10);
  expect((await status(page)).source).toBe("global");
  way.cut = false;
  await expect.poll(async () => (await status(page)).answered).toBe(1);
});

test("a tampered answer is refused, and the ranking stays", async ({ page }) => {
  await visit(page);
  await watch(page, 1);
  await answered(page, 1);
  const before = await status(page);
  way.tamper = (content) => {
    content[Math.floor(content.length / 2)]! ^= 1;
    return content;
  };
  await page.locator("#picks button").nth(2).click();
  await expect.poll(async () => (await status(page)).refused["wrong-mac"]).toBeGreaterThan(0);
  const after = await status(page);
  expect(after.theta?.sequence).toBe(before.theta?.sequence);
  await expect(page.locator("#state")).toContainText("code is wrong");
});

test("a new version is adopted while the page is open, with a theta of its own", async ({ page }) => {
  await visit(page, "?update=0.5");
  await watch(page, 1);
  await answered(page, 1);
  expect((await status(page)).modelId).toBe(cloud.modelId("first"));
  cloud.publish("second");
  await expect.poll(async () => (await status(page)).modelId).toBe(cloud.modelId("second"));
  const after = await status(page);
  expect([after.previous, after.source]).toEqual([cloud.modelId("first"), "theta"]);
  await expect(page.locator("#about")).toContainText(cloud.modelId("second").slice(0, 12));
  cloud.publish("first");
});

test("a full storage costs persistence, never a ranking", async ({ page, context }) => {
  await page.goto(`${way.url}/dashboard/`);
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: way.url, quotaSize: 2000 });
  await visit(page);
  await watchEach(page, 2);
  const found = await status(page);
  expect(found.diskErrors).toBeGreaterThan(0);
  expect(found.source).toBe("theta");
  expect(await page.locator("#own li").count()).toBe(10);
});

test("a browser that forbids storage: the page ranks, asks and forgets, and says that nothing was kept", async ({ playwright }, info) => {
  const folder = info.outputPath("profile");
  mkdirSync(join(folder, "Default"), { recursive: true });
  writeFileSync(join(folder, "Default/Preferences"), JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
  const context = await playwright.chromium.launchPersistentContext(folder, info.project.use.launchOptions);
  const page = await context.newPage();
  await visit(page);
  expect(await page.evaluate(() => Promise.resolve().then(() => localStorage.length).catch((cause: Error) => cause.name))).toBe("SecurityError");
  await watchEach(page, 2);
  const found = await status(page);
  expect([found.source, found.diskErrors > 0]).toEqual(["theta", true]);
  await page.locator("#forget").click();
  await expect(page.locator("#state")).toContainText("all is forgotten but");
  expect((await status(page)).source).toBe("global");
  await context.close();
});

test("two tabs are one device: events and theta of one are there in the other", async ({ page, context }) => {
  await visit(page);
  const other = await context.newPage();
  await visit(other);
  await watch(page, 1);
  await answered(page, 1);
  await expect.poll(async () => (await status(other)).events).toBe(1);
  await expect.poll(async () => (await status(other)).source).toBe("theta");
  expect((await status(other)).theta?.sequence).toBe((await status(page)).theta?.sequence);
  expect([(await status(other)).requests, way.asked]).toEqual([0, 1]);
  await other.locator("#forget").click();
  await expect.poll(async () => (await status(page)).source).toBe("global");
});

test("a reload keeps theta, and asks for nothing", async ({ page }) => {
  await visit(page);
  await watchEach(page, 2);
  const [before, ranking] = [await status(page), await own(page)];
  await page.reload();
  await expect(page.locator("#own li")).toHaveCount(10);
  const after = await status(page);
  expect([after.device, after.theta?.sequence, after.events, after.requests]).toEqual([before.device, before.theta?.sequence, 2, 0]);
  expect(await own(page)).toEqual(ranking);
});

test("forget: events, theta and what was watched are gone, also after a reload", async ({ page }) => {
  await visit(page);
  await watchEach(page, 2);
  await page.locator("#forget").click();
  await expect.poll(async () => (await status(page)).source).toBe("global");
  await expect(page.locator("#watched li")).toHaveText(["nothing yet"]);
  await page.reload();
  await expect(page.locator("#own li")).toHaveCount(10);
  const after = await status(page);
  expect([after.source, after.events]).toEqual(["global", 0]);
});
