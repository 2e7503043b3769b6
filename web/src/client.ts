/** What a device asks of the cloud, over fetch: bounded in time and size. */
import type { ParametersAnswer } from "./answers";
import type { Bytes } from "./bytes";
import { DuetError } from "./errors";
import { MAX_ERROR_BYTES, MAX_LIST_BYTES } from "./limits";
import { message, type ModelsAnswer, modelsAnswer, type ParametersRequest } from "./messages";
import { badAnswer } from "./refusals";

/** Bytes and milliseconds of one question: on the way, and of that in the cloud, as it says. */
export interface Exchange {
  sent: number;
  received: number;
  milliseconds: number;
  cloud: number | null;
}

/** The most bytes that are taken: known at once, or when something that comes at the same time is verified. */
export type Limit = number | Promise<number>;

/** The cloud as a device sees it; anything with these methods may stand in its place, in a `LocalDevice`. */
export interface Cloud {
  parameters(request: ParametersRequest, limit: number): Promise<ParametersAnswer>;
  models(device: string): Promise<ModelsAnswer>;
  file(modelId: string, name: string, limit: Limit): Promise<Bytes>;
  close(): void;
  traffic?: { sent: number; received: number; last: Exchange | null };
}

/** A whole body, never more than the limit. */
export async function readBody(response: Response, limit: number): Promise<Bytes> {
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const part = await reader?.read();
    if (!part || part.done) break;
    size += part.value.length;
    parts.push(part.value);
    if (size > limit) {
      throw badAnswer(`has more than ${limit} bytes`);
    }
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** `fetch` for what may be kept for ever, or must not be kept; time counts to the end of the body. */
export async function fetchBytes(url: string, limit: Limit, seconds: number, init: RequestInit, aborted?: AbortSignal): Promise<[Bytes, Response]> {
  const refused = new AbortController();
  const limits = [AbortSignal.timeout(seconds * 1000), refused.signal, ...(aborted ? [aborted] : [])];
  try {
    const response = await fetch(url, {
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      ...init,
      signal: AbortSignal.any(limits),
    });
    return [await readBody(response, response.ok ? await limit : MAX_ERROR_BYTES), response];
  } catch (cause) {
    // What is not taken shall not come.
    refused.abort();
    if (cause instanceof DuetError) throw cause;
    const late = cause instanceof DOMException && cause.name === "TimeoutError";
    const why = late ? `no whole answer within ${seconds} s` : "no connection to the cloud, or it broke off";
    throw new DuetError("cloud-unreachable", why, "the device goes on with what it has, and asks again later");
  }
}

/** A body in a format of its own, in which it is answered. */
export interface Packed {
  type: string;
  content: Bytes;
  decode(content: Uint8Array): unknown;
}

export class HttpCloud implements Cloud {
  readonly traffic = { sent: 0, received: 0, last: null as Exchange | null };
  /** Ask nothing, as if there were no network. */
  offline = false;
  private readonly closing = new AbortController();

  constructor(
    private readonly url: string,
    private readonly token: string,
    readonly timeout = 10,
    private readonly fileTimeout = 600,
  ) {}

  async parameters(request: ParametersRequest, limit: number): Promise<ParametersAnswer> {
    // There already: it is the half of a device that asks.
    return (await import("./asking")).parametersBy(this, request, limit);
  }

  async models(device: string): Promise<ModelsAnswer> {
    const [content] = await this.exchange(`/v1/models?device=${encodeURIComponent(device)}`, MAX_LIST_BYTES, this.timeout);
    return message(content, modelsAnswer);
  }

  async file(modelId: string, name: string, limit: Limit): Promise<Bytes> {
    return (await this.exchange(`/v1/models/${modelId}/${name}`, limit, this.fileTimeout))[0];
  }

  close(): void {
    this.closing.abort();
  }

  /** A question, and the whole answer; its format is JSON, or that of the body. */
  async exchange(path: string, limit: Limit, seconds: number, body?: Packed): Promise<[Bytes, Response]> {
    if (this.offline) throw new DuetError("cloud-unreachable", "the device is switched offline");
    const headers: Record<string, string> = { Accept: body?.type ?? "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body) headers["Content-Type"] = body.type;
    const init: RequestInit = { headers, method: body ? "POST" : "GET", cache: "no-store", ...(body && { body: body.content }) };
    this.traffic.sent += body?.content.length ?? 0;
    const [content, response] = await fetchBytes(this.url + path, limit, seconds, init, this.closing.signal);
    this.traffic.received += content.length;
    if (response.status !== 200) throw (await import("./asking")).refusalOf(response, content, this.token, body?.decode);
    return [content, response];
  }
}
