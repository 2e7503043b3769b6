/** Versions of the model in this browser: fetched, verified, kept; the one before stays, to go back to. */
import { type Bytes } from "./bytes";
import { checkFile, decodeManifest, DEVICE_FILES, DIGEST, type Files, isBundleError, MANIFEST, SIGNATURE, verifyManifest } from "./bundle";
import { list, map, number, object, string } from "./check";
import { type Cloud, fetchBytes } from "./client";
import { DuetError, invalidBundle } from "./errors";
import { MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, MAX_VERSION_BYTES } from "./limits";
import { Model } from "./model";
import type { DeviceOptions } from "./options";
import type { State } from "./state";

const REFUSED_SECONDS = 24 * 3600;
const ROLLED_BACK = "rolled back";
const MOST_REFUSED = 32;

const id = string(64, DIGEST);
const known = object({
  current: id,
  previous: list(id, 0, 1),
  refused: map(object({ reason: string(), at: number() })),
  key: id,
});
type Known = ReturnType<typeof known>;
type Fetch = (name: string, limit: number) => Promise<Bytes>;

const folder = (modelId: string): string => `file/${modelId}/`;

export class Versions {
  /** The version in use. */
  model!: Model;
  private known: Known | null = null;
  private readonly models = new Map<string, Model>();

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
    const [model, files] = await this.fetch(...found);
    this.model = model;
    this.known = { current: model.id, previous: [], refused: {}, key: this.known?.key ?? model.bundle.publicKey };
    // Nobody need wait for the disk.
    void this.keep(files);
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
    const held = this.models.get(modelId);
    if (held) return held;
    const names = [MANIFEST, SIGNATURE, ...DEVICE_FILES];
    const contents = await Promise.all(names.map((name) => this.state.get(folder(modelId) + name)));
    const files = Object.fromEntries(names.map((name, at) => [name, contents[at] as Bytes]));
    return this.made(modelId, await Model.load(files, this.trusted, this.options));
  }

  private made(modelId: string, model: Model): Model {
    if (model.id !== modelId) throw invalidBundle(`another version than ${modelId.slice(0, 16)} was sent`);
    this.models.set(modelId, model);
    return model;
  }

  /** The version that this device shall run, and where its files are. */
  private async latest(first = false): Promise<[string, Fetch] | null> {
    const { cloud, device } = this;
    if (this.options.bundle !== null && (!cloud || first)) {
      const at: Fetch = async (name, limit) => {
        const [content, response] = await fetchBytes(`${this.options.bundle}/${name}`, limit, 600, { cache: "no-cache" });
        if (!response.ok) throw new DuetError("cloud-refused", `${name} of the bundle cannot be had: ${response.status}`);
        return content;
      };
      return [(await decodeManifest(await at(MANIFEST, MAX_MANIFEST_BYTES))).model_id, at];
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

  /** A newer version with its files, verified; null if there is none. What is wrong with it is remembered. */
  async look(): Promise<[Model, Files] | null> {
    const found = await this.latest();
    if (!found || !this.wants(found[0])) return null;
    try {
      return await this.fetch(...found);
    } catch (cause) {
      if (isBundleError(cause)) await this.refuse(found[0], cause.message);
      throw cause;
    }
  }

  private async refuse(modelId: string, reason: string): Promise<void> {
    const entries = [...Object.entries(this.known!.refused), [modelId, { reason, at: this.clock() }] as const];
    this.known!.refused = Object.fromEntries(entries.slice(-MOST_REFUSED));
    await this.state.set("versions", this.known);
  }

  private async fetch(modelId: string, file: Fetch): Promise<[Model, Files]> {
    const [content, signed] = await Promise.all([file(MANIFEST, MAX_MANIFEST_BYTES), file(SIGNATURE, MAX_SIGNATURE_BYTES)]);
    await verifyManifest(content, signed, this.trusted);
    const manifest = await decodeManifest(content);
    if (manifest.model_id !== modelId) throw invalidBundle(`another version than ${modelId.slice(0, 16)} was sent`);
    const total = DEVICE_FILES.reduce((sum, name) => sum + manifest.files[name]!.bytes, 0);
    if (total > MAX_VERSION_BYTES) throw invalidBundle(`the version has ${total} bytes, this device takes at most ${MAX_VERSION_BYTES}`);
    const files: Files = { [MANIFEST]: content, [SIGNATURE]: signed };
    await Promise.all(
      DEVICE_FILES.map(async (name) => {
        files[name] = await file(name, manifest.files[name]!.bytes);
        await checkFile(manifest, name, files[name]);
      }),
    );
    return [this.made(modelId, await Model.load(files, this.trusted, this.options)), files];
  }

  private async keep(files: Files): Promise<void> {
    const { current, previous } = this.known!;
    const named = Object.entries(files).map(([name, content]) => [folder(current) + name, content]);
    await this.state.put({ ...Object.fromEntries(named), versions: this.known });
    const kept = [current, ...previous];
    for (const key of await this.state.keys("file/")) if (!kept.includes(key.slice(5, 69))) await this.state.delete(key);
    for (const key of await this.state.keys("theta/")) if (!kept.includes(key.slice(6))) await this.state.delete(key);
    for (const [modelId, model] of this.models)
      if (!kept.includes(modelId)) {
        this.models.delete(modelId);
        model.engine.close();
      }
  }

  /** Use a version from now on. */
  async adopt(model: Model, files: Files): Promise<void> {
    this.known = { ...this.known!, current: model.id, previous: [this.model.id] };
    this.model = model;
    await this.keep(files);
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
