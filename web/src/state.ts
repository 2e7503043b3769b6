/**
 * What outlives the page, in IndexedDB, and what its tabs tell each other. A browser that forbids or is out of storage
 * costs persistence, never a ranking: what it does not take stays in memory, and goes with the next write that succeeds.
 */
const KEPT = "kept";
const EVENTS = "events";

export type Told = { what: "observed"; items: string[] } | { what: "theta" | "version" | "forgotten" };

const done = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class State {
  /** Writes and removals that the browser did not take. */
  errors = 0;
  /** Hears what other tabs do. */
  heard: (told: Told) => void = () => undefined;
  private readonly pending = new Map<string, unknown>();
  private unsaved: string[] = [];
  private channel: BroadcastChannel | null = null;
  private database: IDBDatabase | null = null;
  private turn: Promise<unknown> = Promise.resolve();

  private constructor(readonly name: string | null) {
    if (name === null || !("BroadcastChannel" in globalThis)) return;
    this.channel = new BroadcastChannel(`duet-${name}`);
    this.channel.onmessage = ({ data }) => this.heard(data as Told);
  }

  /** The state of a name; null keeps everything in memory. */
  static async open(name: string | null): Promise<State> {
    const state = new State(name);
    if (name === null) return state;
    try {
      const whole = `duet-${name}`;
      const there = (await indexedDB.databases()).some((one) => one.name === whole);
      state.turn = state.connect(whole).catch(() => state.errors++);
      // A new one holds nothing that could be read: what is written waits for it, and nothing else.
      if (there) await state.turn;
    } catch {
      state.errors++;
    }
    return state;
  }

  private async connect(name: string): Promise<void> {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(KEPT);
      request.result.createObjectStore(EVENTS, { autoIncrement: true });
    };
    const database = await done(request);
    database.onversionchange = () => database.close();
    this.database = database;
  }

  /** Whether there is a storage. */
  get keeps(): boolean {
    return this.database !== null;
  }

  private async read<T>(store: string, ask: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
    try {
      return await done(ask(this.database!.transaction(store).objectStore(store)));
    } catch {
      return undefined;
    }
  }

  /** One transaction, after those before; whether the browser took it. */
  private write(store: string, work: (store: IDBObjectStore) => void): Promise<boolean> {
    const now = this.turn.then(async () => {
      try {
        const transaction = this.database!.transaction(store, "readwrite");
        work(transaction.objectStore(store));
        await new Promise<void>((resolve, reject) => {
          transaction.oncomplete = () => resolve();
          transaction.onabort = transaction.onerror = () => reject(transaction.error);
        });
        return true;
      } catch {
        if (this.name !== null) this.errors++;
        return false;
      }
    });
    this.turn = now;
    return now;
  }

  async get(key: string): Promise<unknown> {
    return this.pending.get(key) ?? (await this.read(KEPT, (store) => store.get(key)));
  }

  /** Several values, all or none of them. */
  async put(values: Record<string, unknown>): Promise<boolean> {
    // What is kept in memory alone needs no second place there.
    if (this.name === null) return true;
    for (const [key, value] of Object.entries(values)) this.pending.set(key, value);
    const written = new Map(this.pending);
    const good = await this.write(KEPT, (store) => written.forEach((value, key) => store.put(value, key)));
    if (good) for (const [key, value] of written) if (this.pending.get(key) === value) this.pending.delete(key);
    return good;
  }

  set(key: string, value: unknown): Promise<boolean> {
    return this.put({ [key]: value });
  }

  /** Remove what begins so. Whether it is gone. */
  delete(prefix: string): Promise<boolean> {
    for (const key of this.pending.keys()) if (key.startsWith(prefix)) this.pending.delete(key);
    return this.write(KEPT, (store) => store.delete(IDBKeyRange.bound(prefix, `${prefix}\uffff`)));
  }

  async keys(): Promise<string[]> {
    return ((await this.read(KEPT, (store) => store.getAllKeys())) ?? []).map(String);
  }

  /** The newest events, oldest first, and how many there ever were. */
  async events(most: number): Promise<[items: string[], count: number]> {
    const keys = (await this.read(EVENTS, (store) => store.getAllKeys())) ?? [];
    const first = keys.at(-most) ?? keys[0];
    if (first === undefined) return [[], 0];
    const found = (await this.read(EVENTS, (store) => store.getAll(IDBKeyRange.lowerBound(first)))) ?? [];
    return [found.filter((item): item is string => typeof item === "string"), Number(keys.at(-1))];
  }

  /** Add events; the oldest go when there are more than twice as many as are kept. */
  async append(items: readonly string[], most: number): Promise<boolean> {
    if (this.name === null) return true;
    this.unsaved.push(...items);
    let [waiting, count] = [this.unsaved, 0];
    const good = await this.write(EVENTS, (store) => {
      // All that waits by now: a write before this one may have taken it along, or what was seen may be forgotten.
      waiting = this.unsaved;
      count = waiting.length;
      waiting.forEach((item) => store.add(item));
      const counted = store.count();
      counted.onsuccess = () => {
        if (counted.result <= 2 * most) return;
        const listed = store.getAllKeys();
        listed.onsuccess = () => store.delete(IDBKeyRange.upperBound(listed.result.at(-most)!, true));
      };
    });
    if (good) waiting.splice(0, count);
    return good;
  }

  /** Write nothing of what waits to be written and tells what was seen. */
  drop(): void {
    this.unsaved = [];
    for (const key of this.pending.keys()) if (key.startsWith("theta/")) this.pending.delete(key);
  }

  clearEvents(): Promise<boolean> {
    return this.write(EVENTS, (store) => store.clear());
  }

  /** Tell the other tabs. */
  tell(told: Told): void {
    this.channel?.postMessage(told);
  }

  async close(): Promise<void> {
    await this.turn;
    this.channel?.close();
    this.database?.close();
    this.database = null;
  }
}
