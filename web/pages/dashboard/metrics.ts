/** What Prometheus reads, read here: names with labels to numbers. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export function parse(text: string): Sample[] {
  const found: Sample[] = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name!] = value!.replace(/\\(.)/g, "$1");
    found.push({ name: match[1]!, labels, value: Number(match[3] === "+Inf" ? Infinity : match[3]) });
  }
  return found;
}

export const total = (samples: Sample[], name: string, labels: Record<string, string> = {}): number =>
  pick(samples, name, labels).reduce((sum, { value }) => sum + value, 0);

export const pick = (samples: Sample[], name: string, labels: Record<string, string> = {}): Sample[] =>
  samples.filter((one) => one.name === name && Object.entries(labels).every(([label, value]) => one.labels[label] === value));

/** Counts added up by a label. */
export function by(samples: Sample[], name: string, label: string): [string, number][] {
  const found = new Map<string, number>();
  for (const { labels, value } of pick(samples, name)) found.set(labels[label] ?? "", (found.get(labels[label] ?? "") ?? 0) + value);
  return [...found].sort((one, other) => other[1] - one[1]);
}

/** What was counted between two times: the samples less those of before. */
export function between(samples: Sample[], before: Sample[]): Sample[] {
  const key = ({ name, labels }: Sample): string => name + JSON.stringify(labels);
  const old = new Map(before.map((one) => [key(one), one.value]));
  return samples.map((one) => ({ ...one, value: Math.max(0, one.value - (old.get(key(one)) ?? 0)) }));
}

/** The value that this share of a histogram's counts stays below, linear within a bucket; null without counts. */
export function quantile(samples: Sample[], name: string, share: number, labels: Record<string, string> = {}): number | null {
  const buckets = pick(samples, `${name}_bucket`, labels)
    .map(({ labels: { le }, value }) => [le === "+Inf" ? Infinity : Number(le), value] as const)
    .sort((one, other) => one[0] - other[0]);
  const wanted = share * (buckets.at(-1)?.[1] ?? 0);
  if (!wanted) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= wanted) return bound === Infinity ? low : low + ((bound - low) * (wanted - below)) / (count - below);
    [low, below] = [bound, count];
  }
  return low;
}
