/** A device in a worker of its own, so that the page never waits for it. */
import { type DeviceOptions } from "./options";
import { LocalDevice } from "./device";
import type { Call, Said } from "./remote";
import { DuetError } from "./errors";

const scope = globalThis as unknown as { postMessage(said: Said): void; onmessage: (event: MessageEvent<Call>) => void };
let device: LocalDevice | null = null;

async function call({ method, values }: Call): Promise<unknown> {
  if (method === "open") {
    device = await LocalDevice.open(values[0] as Partial<DeviceOptions>);
    device.onchange = (change) => scope.postMessage({ change });
    globalThis.addEventListener("online", () => device!.online());
    return null;
  }
  return (device![method] as (...given: unknown[]) => unknown)(...values);
}

scope.onmessage = async ({ data }) => {
  try {
    scope.postMessage({ id: data.id, result: await call(data) });
  } catch (cause) {
    const known = cause instanceof DuetError;
    const { message } = cause as Error;
    scope.postMessage({ id: data.id, refused: { code: known ? cause.code : "internal", message, hint: known ? cause.hint : "" } });
  }
};
