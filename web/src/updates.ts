/** Newer versions of the model: found, refused, adopted, and left again for the one before. */
import { DIGEST } from "./bundle";
import { DuetError } from "./errors";
import type { Model } from "./model";
import type { State } from "./state";
import { folder, type Versions } from "./versions";

const REFUSED_SECONDS = 24 * 3600;
const ROLLED_BACK = "rolled back";
const MOST_REFUSED = 32;

/** The first version is written when the page has had its first ranking. */
const WRITE_MS = 500;

export class Updates {
  private later: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly versions: Versions,
    private readonly state: State,
    private readonly clock: () => number,
  ) {
    if (Object.keys(versions.model.bundle.files).length) this.later = setTimeout(() => void this.keep(), WRITE_MS);
  }

  /** Write what is known, with the files of the version in use; no other is kept but the one before. */
  async keep(): Promise<void> {
    clearTimeout(this.later);
    this.later = undefined;
    const { known, models } = this.versions;
    const { current, previous } = known!;
    const { bundle } = models.get(current)!;
    const files = Object.entries(bundle.files).map(([name, content]) => [folder(current) + name, content]);
    bundle.files = {};
    await this.state.put({ ...Object.fromEntries(files), versions: known });
    const kept = [current, ...previous];
    for (const key of await this.state.keys()) {
      const of = /^(file|theta)\/(.{64})/.exec(key);
      if (of && !kept.includes(of[2]!)) await this.state.delete(key);
    }
    for (const [modelId, model] of models)
      if (!kept.includes(modelId)) {
        models.delete(modelId);
        model.engine.close();
      }
  }

  /** Write what waits to be written. */
  async flush(): Promise<void> {
    if (this.later) await this.keep();
  }

  get previous(): string | null {
    return this.versions.known!.previous[0] ?? null;
  }

  get refused(): Record<string, string> {
    return Object.fromEntries(Object.entries(this.versions.known!.refused).map(([name, { reason }]) => [name, reason]));
  }

  private wants(modelId: string): boolean {
    const { model, known } = this.versions;
    if (modelId === model.id || !DIGEST.test(modelId)) return false;
    const refusal = known!.refused[modelId];
    const passed = refusal ? this.clock() - refusal.at : Infinity;
    return !refusal || (refusal.reason !== ROLLED_BACK && !(passed >= 0 && passed < REFUSED_SECONDS));
  }

  /** A newer version, verified; null if there is none. What is wrong with it is remembered. */
  async look(): Promise<Model | null> {
    const { versions } = this;
    // It may become the one to go back to.
    await this.flush();
    const found = await versions.latest();
    if (!this.wants(found[0])) return null;
    try {
      return await versions.open(...found);
    } catch (cause) {
      if (cause instanceof DuetError && cause.code === "invalid-bundle") await this.refuse(found[0], cause.message);
      throw cause;
    }
  }

  private async refuse(modelId: string, reason: string): Promise<void> {
    const known = this.versions.known!;
    const entries = [...Object.entries(known.refused), [modelId, { reason, at: this.clock() }] as const];
    known.refused = Object.fromEntries(entries.slice(-MOST_REFUSED));
    await this.keep();
  }

  /** Keep a version that is in use from now on. */
  async adopt(model: Model): Promise<void> {
    const { known } = this.versions;
    this.versions.known = { ...known!, current: model.id, previous: [known!.current] };
    await this.keep();
  }

  /** The version before. */
  async before(): Promise<Model> {
    const { previous } = this;
    if (previous === null) throw new DuetError("nothing-to-roll-back", "this device has had one version only");
    return this.versions.load(previous);
  }

  /** Keep the version before as the one in use; the one left is not taken again until the cloud names another. */
  async leave(model: Model): Promise<void> {
    const { known } = this.versions;
    this.versions.known = { ...known!, current: model.id, previous: [] };
    await this.refuse(known!.current, ROLLED_BACK);
  }
}
