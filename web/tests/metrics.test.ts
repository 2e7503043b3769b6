import { expect, test } from "vitest";
import { between, by, parse, quantile, total } from "../pages/dashboard/metrics";

const TEXT = `# HELP duet_requests_total Requests answered
duet_requests_total{endpoint="parameters",status="200"} 12.0
duet_requests_total{endpoint="page",status="200"} 3.0
duet_errors_total{code="a\\"b"} 2.0
duet_stage_seconds_bucket{le="0.001",stage="total"} 4.0
duet_stage_seconds_bucket{le="0.002",stage="total"} 8.0
duet_stage_seconds_bucket{le="+Inf",stage="total"} 10.0
duet_stage_seconds_bucket{le="+Inf",stage="read"} 99.0
duet_waiting 1.0
`;

test("samples, sums and shares by hand", () => {
  const samples = parse(TEXT);
  expect(samples).toHaveLength(8);
  expect(total(samples, "duet_requests_total")).toBe(15);
  expect(total(samples, "duet_requests_total", { endpoint: "page" })).toBe(3);
  expect(by(samples, "duet_errors_total", "code")).toEqual([['a"b', 2]]);
  const at = (share: number): number | null => quantile(samples, "duet_stage_seconds", share, { stage: "total" });
  // The fifth of ten is a quarter into the four between 1 and 2 ms; the ninth is beyond the last bound.
  expect([at(0.4), at(0.5), at(0.9)]).toEqual([0.001, 0.00125, 0.002]);
  expect(quantile(samples, "duet_nothing", 0.5)).toBe(null);
  expect(total(between(samples, parse("duet_requests_total{endpoint=\"page\",status=\"200\"} 1.0\n")), "duet_requests_total")).toBe(14);
});
