/** The page's side of a device in a worker: the same methods, each a message there and one back. */
import type { Change, LocalDevice } from "./device";
import { DuetError } from "./errors";

export const METHODS = [
  "observe",
  "rank",
  "recommend",
  "theta",
  "items",
  "events",
  "status",
  "setPolicy",
  "setOffline",
  "refresh",
  "keepUp",
  "update",
  "rollback",
  "forget",
  "close",
] as const;
type Method = (typeof METHODS)[number];

/** What a page does with a device, wherever it runs. */
export type Device = Pick<LocalDevice, Method | "onchange">;

export interface Call {
  id: number;
  method: Method | "open";
  values: unknown[];
}
export interface Said {
  id?: number;
  result?: unknown;
  refused?: { code: string; message: string; hint: string };
  change?: Change;
}

/** An iterator, as the keys of a map, cannot be sent: what it gives can. */
const sendable = (value: any): unknown => (value?.next ? [...value] : value);

/** A device in a worker that listens. */
export async function openRemote(worker: Worker, options: object): Promise<Device> {
  const waiting = new Map<number, [(value: unknown) => void, (cause: Error) => void]>();
  let last = 0;
  /** Why it is closed. */
  let closed = "";
  const refusal = (): DuetError => new DuetError("closed", closed);
  const call = async (method: Call["method"], values: unknown[]): Promise<unknown> => {
    if (closed) throw refusal();
    try {
      worker.postMessage({ id: ++last, method, values: values.map(sendable) } satisfies Call);
    } catch {
      throw new DuetError("invalid-device-config", "the worker takes no function");
    }
    return new Promise((...both) => waiting.set(last, both));
  };
  const stop = (why: string): void => {
    closed = why;
    worker.terminate();
    waiting.forEach(([, reject]) => reject(refusal()));
  };
  const device: Device = { onchange: () => undefined } as any;
  for (const method of METHODS) device[method] = (...values: unknown[]): any => call(method, values);
  device.close = async () => {
    await call("close", []).catch(() => undefined);
    stop("the device is closed");
  };
  worker.onmessage = ({ data: { id, result, refused, change } }: MessageEvent<Said>) => {
    if (change) return device.onchange(change);
    const [resolve, reject] = waiting.get(id!)!;
    waiting.delete(id!);
    if (refused) reject(new DuetError(refused.code, refused.message, refused.hint));
    else resolve(result);
  };
  worker.onerror = () => stop("the worker failed");
  await call("open", [options]).catch((cause) => {
    worker.terminate();
    throw cause;
  });
  return device;
}
