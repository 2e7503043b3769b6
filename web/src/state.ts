/**
 * What outlives the page, in IndexedDB, and what its tabs tell each other. A browser that forbids or is out of storage
 * costs persistence, never a ranking: what it does not take stays in memory, and goes with the next write that succeeds.
 */
const KEPT = "kept";
const EVENTS = "events";
/** Where the theta of a version is kept; of none, how all of them begin. */
export const thetaKey = (modelId = ""): string => `theta/${modelId}`;

export type Told = { what: "observed"; items: string[] } | { what: "theta" | "version" | "forgotten" };

/** What a request gives, or that a transaction is complete. */
const done = <T>(work: any, good = "onsuccess"): Promise<T> =>
  new Promise((resolve, reject) => {
    work[good] = () => resolve(work.result);
    work.onerror = work.onabort = () => reject(work.error);
  });

export interface State {
  readonly name: string | null;
  /** Writes and removals that the browser did not take. */
  errors: number;
  /** Hears what other tabs do. */
  heard(told: Told): void;
  /** Whether there is a storage. */
  keeps(): boolean;
  get(key: string): Promise<unknown>;
  /** Several values, all or none of them. */
  put(values: Record<string, unknown>): Promise<boolean>;
  /** Remove what begins so. Whether it is gone. */
  remove(prefix: string): Promise<boolean>;
  keys(): Promise<string[]>;
  /** The newest events, oldest first, and how many there ever were. */
  events(most: number): Promise<[items: string[], count: number]>;
  /** Add events; of the oldest twice as many as are read stay. */
  append(items: readonly string[], most: number): Promise<boolean>;
  /** Write nothing of what waits to be written and tells what was seen. */
  drop(): void;
  clearEvents(): Promise<boolean>;
  /** Tell the other tabs. */
  tell(told: Told): void;
  close(): Promise<void>;
}

/** The state of a name; null keeps everything in memory. */
export async function openState(name: string | null): Promise<State> {
  const pending = new Map<string, unknown>();
  let unsaved: string[] = [];
  let database: IDBDatabase | null = null;
  let turn: Promise<unknown> = Promise.resolve();
  const whole = `duet-${name}`;
  const channel = name === null || !globalThis.BroadcastChannel ? null : new BroadcastChannel(whole);

  const read = <T>(store: string, ask: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> =>
    Promise.resolve()
      .then(() => done<T>(ask(database!.transaction(store).objectStore(store))))
      .catch(() => undefined);

  /** One transaction, after those before; whether the browser took it. */
  const write = (store: string, work: (store: IDBObjectStore) => void): Promise<boolean> => {
    const now = turn.then(async () => {
      try {
        const transaction = database!.transaction(store, "readwrite");
        work(transaction.objectStore(store));
        await done(transaction, "oncomplete");
        return true;
      } catch {
        if (name !== null) state.errors++;
        return false;
      }
    });
    turn = now;
    return now;
  };
  const unpend = (prefix: string): void => {
    for (const key of pending.keys()) if (key.startsWith(prefix)) pending.delete(key);
  };

  const state: State = {
    name,
    errors: 0,
    heard() {},
    keeps: () => !!database,
    get: async (key) => pending.get(key) ?? read(KEPT, (store) => store.get(key)),
    async put(values) {
      // What is kept in memory alone needs no second place there.
      if (name === null) return true;
      for (const key in values) pending.set(key, values[key]);
      const written = new Map(pending);
      const good = await write(KEPT, (store) => written.forEach((value, key) => store.put(value, key)));
      if (good) written.forEach((value, key) => pending.get(key) === value && pending.delete(key));
      return good;
    },
    remove(prefix) {
      unpend(prefix);
      return write(KEPT, (store) => store.delete(IDBKeyRange.bound(prefix, `${prefix}\uffff`)));
    },
    keys: async () => ((await read(KEPT, (store) => store.getAllKeys())) ?? []).map(String),
    async events(most) {
      const keys = (await read(EVENTS, (store) => store.getAllKeys())) ?? [];
      const first = keys.at(-most) ?? keys[0];
      if (first === undefined) return [[], 0];
      const found = (await read(EVENTS, (store) => store.getAll(IDBKeyRange.lowerBound(first)))) ?? [];
      return [found.filter((item): item is string => typeof item === "string"), Number(keys.at(-1))];
    },
    async append(items, most) {
      if (name === null) return true;
      unsaved.push(...items);
      let [waiting, count] = [unsaved, 0];
      const good = await write(EVENTS, (store) => {
        // All that waits by now: a write before this one may have taken it along, or what was seen may be forgotten.
        waiting = unsaved;
        let left = (count = waiting.length);
        // Keys are running numbers.
        waiting.forEach((item) => {
          const added = store.add(item);
          if (!--left) added.onsuccess = () => store.delete(IDBKeyRange.upperBound((added.result as number) - 2 * most));
        });
      });
      if (good) waiting.splice(0, count);
      return good;
    },
    drop() {
      unsaved = [];
      unpend(thetaKey());
    },
    clearEvents: () => write(EVENTS, (store) => store.clear()),
    tell: (told) => channel?.postMessage(told),
    async close() {
      await turn;
      channel?.close();
      database?.close();
      database = null;
    },
  };
  if (channel) channel.onmessage = ({ data }) => state.heard(data as Told);

  const connect = async (): Promise<void> => {
    const request = indexedDB.open(whole, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(KEPT);
      request.result.createObjectStore(EVENTS, { autoIncrement: true });
    };
    const opened = await done<IDBDatabase>(request);
    opened.onversionchange = () => opened.close();
    database = opened;
  };
  if (name !== null)
    try {
      const there = (await indexedDB.databases()).some((one) => one.name === whole);
      turn = connect().catch(() => state.errors++);
      // A new one holds nothing that could be read: what is written waits for it, and nothing else.
      if (there) await turn;
    } catch {
      state.errors++;
    }
  return state;
}
