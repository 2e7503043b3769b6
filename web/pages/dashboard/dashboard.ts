/** The dashboard: what the service counts, asked for every two seconds with the token of an admin. */
import { byId, bytes, make, milliseconds, say, storage } from "../dom";
import { between, by, parse, pick, quantile, type Sample, total } from "./metrics";

const SECONDS = 2;
const KEPT = 150;
const MINUTE = 60_000;
const STAGES = ["read", "decode", "generate", "encode", "total"];

const rates: number[] = [];
/** What was asked for in the last minute, the oldest first. */
const heard: { at: number; samples: Sample[] }[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;
const session = storage("sessionStorage");
let token = session.getItem("duet-admin") ?? "";

const seconds = (value: number | null): string => (value === null ? "–" : value >= 1 ? `${value.toFixed(1)} s` : milliseconds(value * 1000));
const whole = (value: number): string => Math.round(value).toLocaleString("en");
const span = (value: number): string =>
  value < 60 ? `${value} s` : value < 3600 ? `${value / 60} min` : value < 86_400 ? `${value / 3600} h` : `${value / 86_400} d`;

const rows = (id: string, found: (readonly [string, ...string[]])[]): void => {
  const cells = found.length ? found : [["none"] as const];
  byId(id).replaceChildren(
    ...cells.map(([name, ...values]) => make("tr", {}, make("th", { scope: "row" }, name), ...values.map((value) => make("td", {}, value)))),
  );
};

async function ask(): Promise<void> {
  clearTimeout(timer);
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(new URL("../metrics", location.href), { headers, cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (answer.status === 401 || answer.status === 403) {
      byId("sign-in").hidden = false;
      byId("page").hidden = true;
      session.removeItem("duet-admin");
      return say("about", token ? "This token may not see the figures." : "The figures are for tokens of scope admin.");
    }
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    byId("sign-in").hidden = true;
    byId("page").hidden = false;
    if (token) session.setItem("duet-admin", token);
    show(parse(await answer.text()));
  } catch (cause) {
    say("about", `The cloud does not answer: ${(cause as Error).message}`);
  }
  timer = setTimeout(() => void ask(), SECONDS * 1000);
}

function show(samples: Sample[]): void {
  const now = { at: performance.now(), samples };
  const before = heard.at(-1);
  const passed = before ? (now.at - before.at) / 1000 : 0;
  const rate = (name: string): number =>
    before && passed ? Math.max(0, total(samples, name) - total(before.samples, name)) / passed : 0;
  const sent = rate("duet_parameters_total");
  rates.push(sent);
  rates.splice(0, rates.length - KEPT);
  const requests = total(samples, "duet_requests_total");
  const good = pick(samples, "duet_requests_total").reduce((sum, { labels, value }) => sum + (/^[123]/.test(labels.status ?? "") ? value : 0), 0);
  const answers = total(samples, "duet_parameters_total");
  tiles([
    ["Parameters a second", sent.toFixed(1)],
    ["Requests a second", rate("duet_requests_total").toFixed(1)],
    ["Answered well", requests ? `${((100 * good) / requests).toFixed(1)} %` : "–"],
    ["An answer takes, p95", seconds(quantile(samples, "duet_stage_seconds", 0.95, { stage: "total" }))],
    ["An answer has", answers ? bytes(Math.round(total(samples, "duet_parameters_bytes_total") / answers)) : "–"],
    ["Waiting", whole(total(samples, "duet_waiting"))],
  ]);
  line(sent);
  while (heard.length > 1 && now.at - heard[0]!.at > MINUTE) heard.shift();
  const minute = heard.length ? between(samples, heard[0]!.samples) : samples;
  const timed = total(minute, "duet_stage_seconds_count", { stage: "total" }) ? minute : samples;
  rows(
    "stages",
    STAGES.map((stage) => {
      const labels = { stage };
      const count = total(timed, "duet_stage_seconds_count", labels);
      const mean = count ? total(timed, "duet_stage_seconds_sum", labels) / count : null;
      return [stage, ...[0.5, 0.95, 0.99].map((share) => seconds(quantile(timed, "duet_stage_seconds", share, labels))), seconds(mean)] as const;
    }),
  );
  const served = new Map(by(samples, "duet_model", "model_id"));
  const used = new Map(by(samples, "duet_parameters_total", "model_id"));
  rows(
    "versions",
    [...new Set([...served.keys(), ...used.keys()])].map((id) => {
      const count = used.get(id) ?? 0;
      const role = !served.has(id) ? "withdrawn" : served.get(id) ? "latest" : "in service";
      return [id.slice(0, 12), whole(count), answers ? `${((100 * count) / answers).toFixed(1)} %` : "–", role] as const;
    }),
  );
  ages(samples);
  rows("errors", by(samples, "duet_errors_total", "code").map(([code, count]) => [code, whole(count)] as const));
  rows("bundles", by(samples, "duet_bundles_refused", "code").map(([code, count]) => [code, whole(count)] as const));
  const up = Date.now() / 1000 - total(samples, "duet_started_seconds");
  say("about", `Up for ${up < 120 ? `${Math.round(up)} s` : up < 7200 ? `${Math.round(up / 60)} min` : `${Math.round(up / 3600)} h`}; registry seen ${total(samples, "duet_registry_age_seconds").toFixed(1)} s ago.`);
  heard.push(now);
}

function tiles(found: [string, string][]): void {
  byId("tiles").replaceChildren(...found.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function line(sent: number): void {
  const most = Math.max(1, ...rates);
  const points = rates.map((one, at) => `${((300 * at) / Math.max(1, KEPT - 1)).toFixed(1)},${(58 - (56 * one) / most).toFixed(1)}`);
  byId("rate-line").setAttribute("points", points.join(" "));
  byId("rate").setAttribute("aria-label", `${sent.toFixed(1)} a second now, at most ${Math.max(...rates).toFixed(1)} since this page was opened`);
  say("rate-about", `${sent.toFixed(1)} now, at most ${Math.max(...rates).toFixed(1)} since this page was opened.`);
}

function ages(samples: Sample[]): void {
  const buckets = pick(samples, "duet_parameters_age_seconds_bucket");
  const all = buckets.at(-1)?.value ?? 0;
  let below = 0;
  const found = buckets.map(({ labels, value }) => {
    const [bound, count] = [labels.le!, value - below];
    below = value;
    return [bound === "+Inf" ? "older" : `up to ${span(Number(bound))}`, whole(count), all ? `${((100 * count) / all).toFixed(0)} %` : "–"] as const;
  });
  rows("ages", all ? found.filter(([, count]) => count !== "0") : []);
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId<HTMLInputElement>("token").value.trim();
  void ask();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else void ask();
});
void ask();
