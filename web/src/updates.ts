/** Versions of the model in this browser: fetched, verified, kept; the one before stays, to go back to. */
import type { Bytes } from "./bytes";
import { DIGEST, MANIFEST, json, type Source } from "./bundle";
import { list, map, number, object, string } from "./check";
import { type Cloud, fetchBytes } from "./client";
import { DuetError } from "./errors";
import { MAX_MANIFEST_BYTES } from "./limits";
import { Model } from "./model";
import type { DeviceOptions } from "./options";
import type { State } from "./state";

const REFUSED_SECONDS = 24 * 3600;
const ROLLED_BACK = "rolled back";
const MOST_REFUSED = 32;
/** The first version is written when the page has had its first ranking. */
const WRITE_MS = 500;

const id = string(64, DIGEST);
const known = object({
  current: id,
  previous: list(id, 0, 1),
  refused: map(object({ reason: string(), at: number() })),
  key: id,
});
type Known = ReturnType<typeof known>;
const named = object({ model_id: id }, {}, true);

const folder = (modelId: string): string => `file/${modelId}/`;

export class Versions {
  /** The version in use. */
  model!: Model;
  private known: Known | null = null;
  private readonly models = new Map<string, Model>();
  private later: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly options: DeviceOptions,
    private readonly state: State,
    private readonly cloud: Cloud | null,
    private readonly device: string,
    private readonly clock: () => number,
  ) {}

  get previous(): string | null {
    return this.known!.previous[0] ?? null;
  }

  get refused(): Record<string, string> {
    return Object.fromEntries(Object.entries(this.known!.refused).map(([name, { reason }]) => [name, reason]));
  }

  private get trusted(): readonly string[] | null {
    return this.options.trusted ?? (this.known ? [this.known.key] : null);
  }

  /** The version that was in use, or else the first one: of the page, or of the cloud. */
  async begin(): Promise<void> {
    if (await this.reload()) return;
    const found = await this.latest(true);
    if (!found) throw new DuetError("nothing-to-serve", "there is no version to begin with", "name a bundle, or a cloud");
    this.model = await this.open(...found);
    this.known = { current: this.model.id, previous: [], refused: {}, key: this.known?.key ?? this.model.bundle.publicKey };
    this.later = setTimeout(() => void this.keep(), WRITE_MS);
  }

  /** Use what is kept as the one in use. Whether there is such a version, and it is good; its key is trusted anyway. */
  async reload(): Promise<boolean> {
    try {
      this.known = known(await this.state.get("versions"), "");
      this.model = await this.load(this.known.current);
      return true;
    } catch {
      return false;
    }
  }

  private async load(modelId: string): Promise<Model> {
    return this.models.get(modelId) ?? this.open(modelId, (name) => this.state.get(folder(modelId) + name));
  }

  private async open(modelId: string, source: Source): Promise<Model> {
    const model = await Model.load(source, this.trusted, this.options, modelId);
    this.models.set(modelId, model);
    return model;
  }

  /** The version that this device shall run, and where its files are. */
  private async latest(first = false): Promise<[string, Source] | null> {
    const { cloud, device } = this;
    if (this.options.bundle !== null && (!cloud || first)) {
      const at: Source = async (name, limit) => {
        const [content, response] = await fetchBytes(`${this.options.bundle}/${name}`, limit, 600, { cache: "no-cache" });
        if (!response.ok) throw new DuetError("cloud-refused", `${name} of the bundle cannot be had: ${response.status}`);
        return content;
      };
      return [json((await at(MANIFEST, MAX_MANIFEST_BYTES)) as Bytes, named, MANIFEST).model_id, at];
    }
    if (!cloud) return null;
    const { latest } = await cloud.models(device);
    return [latest, (name, limit) => cloud.file(latest, name, limit)];
  }

  private wants(modelId: string): boolean {
    if (modelId === this.model.id || !DIGEST.test(modelId)) return false;
    const refusal = this.known!.refused[modelId];
    const passed = refusal ? this.clock() - refusal.at : Infinity;
    return !refusal || (refusal.reason !== ROLLED_BACK && !(passed >= 0 && passed < REFUSED_SECONDS));
  }

  /** A newer version, verified; null if there is none. What is wrong with it is remembered. */
  async look(): Promise<Model | null> {
    const found = await this.latest();
    if (!found || !this.wants(found[0])) return null;
    try {
      return await this.open(...found);
    } catch (cause) {
      if (cause instanceof DuetError && cause.code === "invalid-bundle") await this.refuse(found[0], cause.message);
      throw cause;
    }
  }

  private async refuse(modelId: string, reason: string): Promise<void> {
    const entries = [...Object.entries(this.known!.refused), [modelId, { reason, at: this.clock() }] as const];
    this.known!.refused = Object.fromEntries(entries.slice(-MOST_REFUSED));
    await this.state.set("versions", this.known);
  }

  private async keep(): Promise<void> {
    clearTimeout(this.later);
    this.later = undefined;
    const { current, previous } = this.known!;
    const { bundle } = this.model;
    const files = Object.entries(bundle.files).map(([name, content]) => [folder(current) + name, content]);
    bundle.files = {};
    await this.state.put({ ...Object.fromEntries(files), versions: this.known });
    const kept = [current, ...previous];
    for (const key of await this.state.keys()) {
      const of = /^(file|theta)\/(.{64})/.exec(key);
      if (of && !kept.includes(of[2]!)) await this.state.delete(key);
    }
    for (const [modelId, model] of this.models)
      if (!kept.includes(modelId)) {
        this.models.delete(modelId);
        model.engine.close();
      }
  }

  /** Write what waits to be written. */
  async close(): Promise<void> {
    if (this.later) await this.keep();
  }

  /** Use a version from now on. */
  async adopt(model: Model): Promise<void> {
    this.known = { ...this.known!, current: model.id, previous: [this.model.id] };
    this.model = model;
    await this.keep();
  }

  /** Use the version before again, and the one left not again until the cloud names another. */
  async rollback(): Promise<Model> {
    const { previous } = this;
    if (previous === null) throw new DuetError("nothing-to-roll-back", "this device has had one version only");
    const [model, left] = [await this.load(previous), this.model.id];
    this.model = model;
    this.known = { ...this.known!, current: model.id, previous: [] };
    await this.refuse(left, ROLLED_BACK);
    return model;
  }

  /** Forget what was made of the items that were seen. */
  forget(): void {
    for (const model of this.models.values()) model.forget();
  }
}
