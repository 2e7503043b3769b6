/** Strict types of what comes from outside: a check gives the value, or throws what is wrong with it. */
export type Check<T> = (value: unknown, at: string) => T;
type Checked<C> = C extends Check<infer T> ? T : never;

const wrong = (at: string, what: string): never => {
  throw new TypeError(`${at || "it"} is ${what}`);
};

export const string =
  (most = Infinity, pattern?: RegExp): Check<string> =>
  (value, at) =>
    typeof value === "string" && value.length <= most && (!pattern || pattern.test(value)) ? value : wrong(at, "no such text");

export const number =
  (least = -Infinity, most = Infinity, whole = false): Check<number> =>
  (value, at) =>
    typeof value === "number" && value >= least && value <= most && (!whole || Number.isSafeInteger(value))
      ? value
      : wrong(at, "no such number");

export const whole = (least: number, most: number): Check<number> => number(least, most, true);

export const oneOf =
  <T extends string | number>(...values: T[]): Check<T> =>
  (value, at) =>
    values.includes(value as T) ? (value as T) : wrong(at, `none of ${values.join(", ")}`);

export const bytes: Check<Uint8Array> = (value, at) => (value instanceof Uint8Array ? value : wrong(at, "no bytes"));

export const list =
  <T>(each: Check<T>, least = 0, most = Infinity): Check<T[]> =>
  (value, at) =>
    Array.isArray(value) && value.length >= least && value.length <= most
      ? value.map((one, place) => each(one, `${at}[${place}]`))
      : wrong(at, "no such list");

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const map =
  <T>(each: Check<T>): Check<Record<string, T>> =>
  (value, at) =>
    isObject(value)
      ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, each(one, `${at}.${name}`)]))
      : wrong(at, "no object");

/** An object of these fields; a default makes a field optional. Unknown fields are refused, unless `open`. */
export const object =
  <F extends Record<string, Check<unknown>>>(
    fields: F,
    defaults: { [K in keyof F]?: Checked<F[K]> } = {},
    open = false,
  ): Check<{ [K in keyof F]: Checked<F[K]> }> =>
  (value, at) => {
    if (!isObject(value)) return wrong(at, "no object");
    const unknown = open ? undefined : Object.keys(value).find((name) => !Object.hasOwn(fields, name));
    if (unknown !== undefined) wrong(`${at}.${unknown}`, "unknown");
    const found: Record<string, unknown> = {};
    for (const name in fields) {
      const given = Object.hasOwn(value, name) || !Object.hasOwn(defaults, name);
      found[name] = given ? fields[name]!(value[name], `${at}.${name}`) : defaults[name];
    }
    return found as { [K in keyof F]: Checked<F[K]> };
  };
