/** The event log: what the device has seen, the newest events; what is in it counts as met. */
import { size } from "./items";
import { MAX_ID_BYTES, MAX_LOG_EVENTS } from "./limits";

export class EventLog {
  /** Events ever observed. */
  count = 0;
  private items: string[] = [];
  private readonly times = new Map<string, number>();

  constructor(readonly capacity = MAX_LOG_EVENTS) {}

  get length(): number {
    return this.items.length;
  }

  /** Whether an item is in it. */
  has(id: string): boolean {
    return this.times.has(id);
  }

  met(): IterableIterator<string> {
    return this.times.keys();
  }

  /** The last `length` events at most, oldest first. */
  last(length: number): string[] {
    return length > 0 ? this.items.slice(-length) : [];
  }

  /** Observe events, oldest first; what was kept of them. */
  append(items: readonly string[]): string[] {
    const { times } = this;
    // Of an id that no item can have, its place alone is kept.
    const kept = items.map((item) => (size(item) > MAX_ID_BYTES ? "" : item));
    for (const item of kept) times.set(item, (times.get(item) ?? 0) + 1);
    this.items.push(...kept);
    this.count += kept.length;
    for (const item of this.items.splice(0, this.items.length - this.capacity)) {
      const left = times.get(item)! - 1;
      if (left) times.set(item, left);
      else times.delete(item);
    }
    return kept;
  }

  /** Forget every event; the count goes on, so that no older theta looks fresh. */
  clear(): void {
    this.items = [];
    this.times.clear();
  }
}
