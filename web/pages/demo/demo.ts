/** The demo page: what a person watches, two rankings side by side, and what each answer of the cloud costs. */
import { type Device, DuetError, everyEvents, type Item, openDevice, type Ranked, type Status } from "../../src/index";
import { byId, bytes, make, milliseconds, say, storage } from "../dom";
import sw from "./sw.ts?worker&url";
import { drawTheta } from "./theta";

const SHOWN = 10;
const PICKS = 12;
/** How far down the other list the page looks for where an item stood. */
const REACH = 1000;
const KEPT_ANSWERS = 12;
const keptPolicy = (): number => Number(storage("localStorage").getItem("duet-policy")) || 1;

/** The script runs at once; what it draws into may come after it. */
const parsed = new Promise<unknown>((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve);
  else resolve(null);
});

type Answer = NonNullable<Status["last"]>;

class Page {
  private readonly titles = new Map<string, string>();
  private order: string[] = [];
  private showsMet = false;
  private readonly answers: Answer[] = [];
  private places = new Map<string, number>();
  private drawing: Promise<void> | null = null;
  private again = false;

  constructor(private readonly device: Device) {}

  async begin(): Promise<void> {
    const drawn = this.draw();
    // While the worker ranks.
    this.connect();
    await drawn;
    await this.readItems();
    await this.draw();
  }

  /** The whole catalogue, to search in: what was typed meanwhile is looked up now. */
  private async readItems(): Promise<void> {
    const items = await this.device.items();
    this.titles.clear();
    this.name(items);
    this.order = items.map(({ id }) => id);
    this.pick();
  }

  private name(items: Item[]): void {
    for (const { id, title } of items) this.titles.set(id, title || id);
  }

  private title(id: string): string {
    return this.titles.get(id) ?? id;
  }

  private connect(): void {
    const { device } = this;
    device.onchange = (what) => {
      if (what === "version") void this.readItems().then(() => this.draw());
      else void this.draw();
    };
    byId("search").addEventListener("input", () => {
      say("found", "");
      this.pick();
    });
    const slider = byId<HTMLInputElement>("policy");
    slider.value = String(keptPolicy());
    const policy = (): void => {
      const count = Number(slider.value);
      say("policy-says", count === 1 ? "every event" : `every ${count} events`);
      slider.setAttribute("aria-valuetext", count === 1 ? "every event" : `every ${count} events`);
    };
    slider.addEventListener("input", policy);
    slider.addEventListener("change", () => {
      storage("localStorage").setItem("duet-policy", slider.value);
      void device.setPolicy(everyEvents(Number(slider.value)));
    });
    policy();
    byId("refresh").addEventListener("click", async () => {
      const good = await device.refresh();
      await this.draw();
      if (!good) say("state", (await device.status()).events ? "No new parameters: see below." : "There is nothing to ask with: watch something.");
    });
    byId("offline").addEventListener("click", async ({ currentTarget }) => {
      const button = currentTarget as HTMLElement;
      const offline = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(offline));
      await device.setOffline(offline);
      say("state", offline ? "Offline: this browser ranks on with what it has." : "Online again.");
    });
    byId("forget").addEventListener("click", async () => {
      try {
        await device.forget();
        say("state", "Forgotten: what you watched and your parameters are gone from this browser; the cloud kept nothing.");
      } catch (cause) {
        say("state", (cause as Error).message);
      }
      this.answers.length = 0;
      await this.draw();
    });
    byId("met").addEventListener("click", ({ currentTarget }) => {
      this.showsMet = !this.showsMet;
      (currentTarget as HTMLElement).setAttribute("aria-pressed", String(this.showsMet));
      void this.draw();
    });
  }

  private async watch(id: string): Promise<void> {
    await this.device.observe(id);
    await this.draw();
    say("found", `Watched ${this.title(id)}.`);
  }

  /** Items to choose from, once the catalogue is here: those that match what is typed, or some from all over it. */
  private pick(): void {
    if (!this.order.length) return;
    const wanted = byId<HTMLInputElement>("search").value.trim().toLowerCase();
    const all = wanted ? this.order.filter((id) => this.title(id).toLowerCase().includes(wanted)) : this.spread();
    byId("picks").replaceChildren(...all.slice(0, PICKS).map((id) => make("li", {}, this.button(id))));
    if (wanted) say("found", `${all.length} found${all.length > PICKS ? `, the first ${PICKS} shown` : ""}`);
  }

  private spread(): string[] {
    const step = Math.max(1, Math.floor(this.order.length / PICKS));
    return this.order.filter((_, at) => at % step === 0);
  }

  private button(id: string): HTMLButtonElement {
    const button = make("button", { type: "button", "data-id": id }, this.title(id));
    button.addEventListener("click", () => void this.watch(id));
    return button;
  }

  /** Everything as it is now; once more if something changed meanwhile. */
  private draw(): Promise<void> {
    this.again = true;
    this.drawing ??= (async () => {
      while (this.again) {
        this.again = false;
        await this.drawOnce();
      }
      this.drawing = null;
    })();
    return this.drawing;
  }

  private async drawOnce(): Promise<void> {
    const { device } = this;
    const met = this.showsMet ? "show" : "hide";
    const start = performance.now();
    const [own, status, theta, events] = await Promise.all([
      device.recommend(SHOWN, { met }),
      device.status(),
      device.theta(),
      device.events(200),
    ]);
    const everyone = theta ? await device.recommend(REACH, { met, personal: false }) : own;
    const took = performance.now() - start;
    const watched = new Set(events);
    const unnamed = [...own, ...everyone.slice(0, SHOWN)].map(([id]) => id).concat(events).filter((id) => !this.titles.has(id));
    if (unnamed.length) this.name(await device.items(unnamed));
    this.rank("global", everyone, null, watched);
    this.rank("own", own, new Map(everyone.map(([id], at) => [id, at])), watched);
    if (byId("page").hidden) {
      byId("page").hidden = false;
      performance.mark("first-ranking");
    }
    // The rankings are seen before the rest is drawn.
    await new Promise((resolve) => setTimeout(resolve));
    this.describe(status, took);
    const newest = [...watched].reverse().slice(0, 24);
    byId("watched").replaceChildren(
      ...(newest.length ? newest.map((id) => make("li", {}, this.title(id))) : [make("li", {}, "nothing yet")]),
    );
    const count = [...watched].filter((id) => this.titles.has(id)).length;
    say(
      "met-about",
      !count
        ? "Nothing: you watched nothing yet. What you watch is hidden from both lists, as someone who watched it wants another."
        : this.showsMet
          ? `Nothing: the ${count} you watched stand in both lists, marked.`
          : `${count} that you watched ${count === 1 ? "is" : "are"} hidden from both lists: ${newest.slice(0, 5).map((id) => this.title(id)).join(", ")}${count > 5 ? " and more" : ""}.`,
    );
    drawTheta(theta, status);
    this.strip(status);
  }

  private rank(place: "global" | "own", ranking: Ranked[], others: Map<string, number> | null, watched: Set<string>): void {
    const rows = ranking.slice(0, SHOWN).map(([id], at) => {
      const row = make("li", {}, make("span", { class: "place" }, String(at + 1)), this.button(id));
      if (watched.has(id)) row.append(make("span", { class: "moves met" }, "watched"));
      else if (others) {
        const before = others.get(id);
        const moved = (before ?? REACH) - at;
        const far = before === undefined ? `more than ${moved}` : String(Math.abs(moved));
        if (moved)
          row.append(
            make(
              "span",
              { class: `moves ${moved > 0 ? "up" : "down"}` },
              make("span", { "aria-hidden": "true" }, `${moved > 0 ? "▲" : "▼"} ${far.replace("more than ", "> ")}`),
              make("span", { class: "hidden" }, `${far} places ${moved > 0 ? "up" : "down"}`),
            ),
          );
      }
      if (others && this.places.get(id) !== at) row.classList.add("moved");
      return row;
    });
    if (others) this.places = new Map(ranking.slice(0, SHOWN).map(([id], at) => [id, at]));
    // Someone at the keyboard stays at the place that was chosen, whatever stands there now.
    const list = byId(place);
    const at = [...list.children].findIndex((row) => row.contains(document.activeElement));
    list.replaceChildren(...rows);
    rows[at]?.querySelector("button")?.focus();
  }

  private describe(status: Status, took: number): void {
    const count = this.order.length || "all";
    say("about", `${status.backbone} on ${status.name}, ${count} items; version ${status.modelId.slice(0, 12)}; device ${status.device}.`);
    say(
      "own-about",
      status.theta
        ? `The same with this browser’s own parameters, θ, made ${status.theta.ageEvents} event${status.theta.ageEvents === 1 ? "" : "s"} ago.`
        : "The same with this browser’s own parameters, θ: there are none yet, so both lists agree.",
    );
    say("ranked", `Ranked ${count} items ${status.theta ? "twice" : "once"}, here, in ${milliseconds(took)}, with the messages to the worker and back.`);
    const trouble = Object.entries({ ...status.failures, ...status.refused });
    if (status.lastError) {
      const wait = status.nextTrySeconds ? ` It asks again in ${Math.ceil(status.nextTrySeconds)} s.` : "";
      say("state", `${status.lastError} (${trouble.map(([code, count]) => `${code} ${count}×`).join(", ")}).${wait}`);
    } else if (status.theta && trouble.length) say("state", "The cloud answers again.");
  }

  /** A row for each answer, the newest first. */
  private strip({ last }: Status): void {
    if (!last || this.answers[0]?.sequence === last.sequence) {
      if (!this.answers.length) byId("asked").replaceChildren(make("tr", {}, make("td", { colspan: "7" }, "none yet")));
      return;
    }
    this.answers.unshift(last);
    this.answers.length = Math.min(this.answers.length, KEPT_ANSWERS);
    const rows = this.answers.map((one, at) => {
      const cloud = one.cloud ?? 0;
      const way = Math.max(0, one.milliseconds - cloud);
      const total = one.milliseconds + one.device || 1;
      const parts = Object.entries({ cloud, way, device: one.device }).map(([name, value]) => {
        const part = make("span", { class: name });
        part.style.width = `${(100 * value) / total}%`;
        return part;
      });
      const cells = [bytes(one.sent), bytes(one.received), milliseconds(cloud), milliseconds(way), milliseconds(one.device)];
      return make(
        "tr",
        at ? {} : { class: "moved" },
        make("th", { scope: "row" }, at ? `${at} before` : "newest"),
        ...cells.map((text) => make("td", {}, text)),
        make("td", {}, make("div", { class: "bar", "aria-hidden": "true" }, ...parts)),
      );
    });
    byId("asked").replaceChildren(...rows);
  }
}

async function start(credentials: { deviceId?: string; token?: string } = {}): Promise<void> {
  try {
    const device = await openDevice({
      cloud: new URL("..", location.href).href,
      state: "demo",
      // Read when the worker has started: the browser may take its time.
      get policy() {
        return everyEvents(keptPolicy());
      },
      updateSeconds: Number(new URLSearchParams(location.search).get("update")) || 15,
      ...credentials,
    });
    await parsed;
    byId("sign-in").hidden = true;
    Object.assign(globalThis, { duetDevice: device });
    await new Page(device).begin();
  } catch (cause) {
    const said = cause instanceof DuetError ? `${cause.message} [${cause.code}]. ${cause.hint}` : String(cause);
    await parsed;
    byId("sign-in").hidden = !/answers 40[13]/.test(said);
    say("about", `No device: ${said}`);
  }
}

void parsed.then(() =>
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    void start({ deviceId: byId<HTMLInputElement>("device-id").value, token: byId<HTMLInputElement>("token").value });
  }),
);
// Only now, so that it takes no time from the first ranking.
void start().then(() => navigator.serviceWorker?.register(sw).catch(() => undefined));
