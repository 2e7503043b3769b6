/** Theta as a small map of heat: a square for each weight, then one for each item that the bias may raise. */
import type { Device, Status } from "../../src/index";
import { byId, bytes, say } from "../dom";

type Theta = Awaited<ReturnType<Device["theta"]>>;
const WIDTH = 96;

const largest = (values: Float32Array): number => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

export function drawTheta(theta: Theta, status: Status): void {
  const canvas = byId<HTMLCanvasElement>("theta");
  const weights = status.theta?.weightsBytes ? theta!.values : new Float32Array(0);
  const parts = [weights, theta?.bias?.subarray(2) ?? new Float32Array(0)];
  canvas.width = WIDTH;
  canvas.height = Math.max(1, parts.reduce((rows, part) => rows + Math.ceil(part.length / WIDTH), 0));
  const context = canvas.getContext("2d");
  const image = context?.createImageData(canvas.width, canvas.height);
  let from = 0;
  for (const part of parts) {
    const most = largest(part);
    part.forEach((value, at) => {
      const share = most ? Math.sqrt(Math.abs(value) / most) : 0;
      const [red, green, blue] = value > 0 ? [11, 138, 123] : [194, 87, 26];
      image?.data.set([red, green, blue, 255 * share], 4 * (from + at));
    });
    from += WIDTH * Math.ceil(part.length / WIDTH);
  }
  if (image) context!.putImageData(image, 0, 0);
  if (!theta || !status.theta) {
    canvas.setAttribute("aria-label", "No parameters yet");
    return say("theta-about", "There are none yet: watch something.");
  }
  const told: string[] = [];
  if (status.theta.weightsBytes)
    told.push(`${weights.length.toLocaleString("en")} weights in ${bytes(status.theta.weightsBytes)}, trusted ${theta.weightsTrust.toFixed(2)}`);
  theta.opinions.forEach(({ name, items }, at) =>
    told.push(`${items} items that ${name} names, trusted ${theta.opinionsTrust[at]!.toFixed(2)}`),
  );
  if (status.theta.biasBytes) told.push(`the item bias takes ${bytes(status.theta.biasBytes)}`);
  canvas.setAttribute("aria-label", `${weights.length} weights, the largest ${largest(weights).toPrecision(2)}; an item bias of at most ${largest(parts[1]!).toPrecision(2)}`);
  say("theta-about", `${told.join("; ")}. Trust falls with every event since.`);
}
