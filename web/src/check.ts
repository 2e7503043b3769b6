/** Strict types of what comes from outside: a check gives the value, or throws what is wrong with it. */
export type Check<T> = (value: unknown, at: string) => T;
type Checked<C> = C extends Check<infer T> ? T : never;

/** A check by a yes or no. */
const check =
  <T>(good: (value: any) => boolean): Check<T> =>
  (value, at) => {
    if (good(value)) return value as T;
    throw new TypeError(`${at || "it"} is not what it should be`);
  };

export const string = (most = Infinity, pattern = /^/): Check<string> =>
  check((value) => typeof value === "string" && value.length <= most && pattern.test(value));

export const number = (least = -Infinity, most = Infinity): Check<number> =>
  check((value) => typeof value === "number" && value >= least && value <= most);

export const whole = (least: number, most: number): Check<number> =>
  check((value) => Number.isSafeInteger(value) && value >= least && value <= most);

export const oneOf = <T extends string | number>(...values: T[]): Check<T> => check((value) => values.includes(value));

export const bytes: Check<Uint8Array> = check((value) => value instanceof Uint8Array);

export const list = <T>(each: Check<T>, least = 0, most = Infinity): Check<T[]> => {
  const isList = check<unknown[]>((value) => Array.isArray(value) && value.length >= least && value.length <= most);
  return (value, at) => isList(value, at).map((one) => each(one, at));
};

const isObject = check<Record<string, unknown>>((value) => typeof value === "object" && value !== null && !Array.isArray(value));

export const map =
  <T>(each: Check<T>): Check<Record<string, T>> =>
  (value, at) =>
    Object.fromEntries(Object.entries(isObject(value, at)).map(([name, one]) => [name, each(one, `${at}.${name}`)]));

/** An object of these fields; a default makes a field optional. Unknown fields are refused, unless `open`. */
export const object =
  <F extends Record<string, Check<unknown>>>(
    fields: F,
    defaults: { [K in keyof F]?: Checked<F[K]> } = {},
    open = false,
  ): Check<{ [K in keyof F]: Checked<F[K]> }> =>
  (value, at) => {
    const all: Record<string, unknown> = { ...defaults, ...isObject(value, at) };
    const found: Record<string, unknown> = {};
    for (const name in fields) found[name] = fields[name]!(Object.hasOwn(all, name) ? all[name] : undefined, `${at}.${name}`);
    const unknown = open ? undefined : Object.keys(all).find((name) => !Object.hasOwn(fields, name));
    if (unknown !== undefined) throw new TypeError(`${at}.${unknown} is unknown`);
    return found as { [K in keyof F]: Checked<F[K]> };
  };
