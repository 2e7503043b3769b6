/** Versions of the model in this browser: the one in use, verified and kept, and the one before. */
import type { Bytes } from "./bytes";
import { DIGEST, MANIFEST, json, type Source } from "./bundle";
import { list, map, number, object, string } from "./check";
import { type Cloud, fetchBytes } from "./client";
import { DuetError } from "./errors";
import { MAX_MANIFEST_BYTES } from "./limits";
import { Model } from "./model";
import type { DeviceOptions } from "./options";
import type { State } from "./state";

const id = string(64, DIGEST);
const known = object({
  current: id,
  previous: list(id, 0, 1),
  refused: map(object({ reason: string(), at: number() })),
  key: id,
});
export type Known = ReturnType<typeof known>;
const named = object({ model_id: id }, {}, true);

/** Where the files of a version are kept. */
export const folder = (modelId: string): string => `file/${modelId}/`;

export class Versions {
  /** The version in use. */
  model!: Model;
  /** What is kept of them. */
  known: Known | null = null;
  readonly models = new Map<string, Model>();

  constructor(
    private readonly options: DeviceOptions,
    private readonly state: State,
    private readonly cloud: Cloud | null,
    private readonly device: string,
  ) {}

  private get trusted(): readonly string[] | null {
    return this.options.trusted ?? (this.known ? [this.known.key] : null);
  }

  /** The version that was in use, or else the first one: of the page, or of the cloud. Whether it was kept here. */
  async begin(): Promise<boolean> {
    const kept = await this.reload();
    if (kept) {
      this.model = kept;
      return true;
    }
    const found = await this.latest(true);
    if (!found) throw new DuetError("nothing-to-serve", "there is no version to begin with", "name a bundle, or a cloud");
    this.model = await this.open(...found);
    this.known = { current: this.model.id, previous: [], refused: {}, key: this.known?.key ?? this.model.bundle.publicKey };
    return false;
  }

  /** The version that is kept as the one in use, if it is good; its key is trusted anyway. */
  async reload(): Promise<Model | null> {
    try {
      this.known = known(await this.state.get("versions"), "");
      return await this.load(this.known.current);
    } catch {
      return null;
    }
  }

  async load(modelId: string): Promise<Model> {
    const held = this.models.get(modelId);
    if (held) return held;
    const model = await this.open(modelId, (name) => this.state.get(folder(modelId) + name));
    model.bundle.files = {};
    return model;
  }

  async open(modelId: string, source: Source): Promise<Model> {
    const model = await Model.load(source, this.trusted, this.options, modelId);
    this.models.set(modelId, model);
    return model;
  }

  /** The version that this device shall run, and where its files are. */
  async latest(first = false): Promise<[string, Source] | null> {
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

  /** Forget what was made of the items that were seen. */
  forget(): void {
    for (const model of this.models.values()) model.forget();
  }
}
