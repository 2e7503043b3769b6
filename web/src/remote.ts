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

/** A device in a worker that listens. */
export async function openRemote(worker: Worker, options: object): Promise<Device> {
  const waiting = new Map<number, [(value: unknown) => void, (cause: Error) => void]>();
  let last = 0;
  let closed = false;
  const call = (method: Call["method"], values: unknown[]): Promise<unknown> =>
    new Promise((resolve, reject) => {
      if (closed) return reject(new DuetError("closed", "the device is closed"));
      worker.postMessage({ id: ++last, method, values } satisfies Call);
      waiting.set(last, [resolve, reject]);
    });
  const stop = (why: string): void => {
    closed = true;
    worker.terminate();
    for (const [, reject] of waiting.values()) reject(new DuetError("closed", why));
    waiting.clear();
  };
  const device = { onchange: () => undefined } as unknown as Device;
  for (const method of METHODS) Object.assign(device, { [method]: (...values: unknown[]) => call(method, values) });
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
  worker.onerror = () => stop("the worker of the device failed");
  try {
    await call("open", [options]);
  } catch (cause) {
    worker.terminate();
    throw cause;
  }
  return device;
}
