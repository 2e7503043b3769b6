/** Strict types of what comes from outside: a check gives the value, or throws what is wrong with it. */
export type Check<T> = (value: unknown, name: string) => T;
type Checked<C> = C extends Check<infer T> ? T : never;

/** A check by a yes or no. */
export const check =
  <T>(good: (value: any) => boolean): Check<T> =>
  (value, name) => {
    if (good(value)) return value as T;
    throw new TypeError(`${name} is wrong`);
  };

export const string = (most = Infinity, pattern = /^/): Check<string> =>
  check((value) => typeof value === "string" && value.length <= most && pattern.test(value));

export const number = (least = -Infinity, most = Infinity): Check<number> =>
  check((value) => typeof value === "number" && value >= least && value <= most);

export const whole = (least: number, most: number): Check<number> =>
  check((value) => Number.isSafeInteger(value) && value >= least && value <= most);

export const oneOf = <T>(...values: T[]): Check<T> => check((value) => values.includes(value));

export const bytes: Check<Uint8Array> = check((value) => value instanceof Uint8Array);

export const list = <T>(each: Check<T>, least = 0, most = Infinity): Check<T[]> => {
  const isList = check<unknown[]>((value) => Array.isArray(value) && value.length >= least && value.length <= most);
  return (value, name) => isList(value, name).map((one) => each(one, name));
};

const isObject = check<Record<string, unknown>>((value) => typeof value === "object" && value !== null && !Array.isArray(value));

export const map =
  <T>(each: Check<T>): Check<Record<string, T>> =>
  (value, at) =>
    Object.fromEntries(Object.entries(isObject(value, at)).map(([name, one]) => [name, each(one, name)]));

/** What may be left out. */
export const or =
  <T>(kind: Check<T>, otherwise: T): Check<T> =>
  (value, name) =>
    value === undefined ? otherwise : kind(value, name);

/** An object of these fields. Unknown fields are refused, unless `open`. */
export const object =
  <F extends Record<string, Check<unknown>>>(fields: F, open = false): Check<{ [K in keyof F]: Checked<F[K]> }> =>
  (value, at) => {
    const given = isObject(value, at);
    for (const name in given) if (!open && !Object.hasOwn(fields, name)) throw new TypeError(`${name} is unknown`);
    return Object.fromEntries(Object.entries(fields).map(([name, kind]) => [name, kind(given[name], name)])) as { [K in keyof F]: Checked<F[K]> };
  };
