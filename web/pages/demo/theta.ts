/** Theta as a small map of heat: a square for each weight, warm below everyone's model and green above. */
import type { Device, Status } from "../../src/index";
import { byId, bytes, say } from "../dom";

type Theta = Awaited<ReturnType<Device["theta"]>>;
const WIDTH = 96;

export function drawTheta(theta: Theta, status: Status): void {
  const canvas = byId<HTMLCanvasElement>("theta");
  const values = theta?.values ?? new Float32Array(0);
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const columns = Math.min(WIDTH, Math.max(1, values.length));
  canvas.width = columns;
  canvas.height = Math.max(1, Math.ceil(values.length / columns));
  const context = canvas.getContext("2d");
  if (context && values.length) {
    const image = context.createImageData(canvas.width, canvas.height);
    values.forEach((value, at) => {
      const share = largest ? Math.sqrt(Math.abs(value) / largest) : 0;
      const [red, green, blue] = value > 0 ? [11, 138, 123] : [194, 87, 26];
      image.data.set([red, green, blue, 255 * share], 4 * at);
    });
    context.putImageData(image, 0, 0);
  }
  if (!theta || !status.theta) {
    canvas.setAttribute("aria-label", "No parameters yet");
    return say("theta-about", "There are none yet: watch something.");
  }
  const parts: string[] = [];
  if (status.theta.weightsBytes)
    parts.push(`${values.length.toLocaleString("en")} weights in ${bytes(status.theta.weightsBytes)}, trusted ${theta.weightsTrust.toFixed(2)}`);
  theta.opinions.forEach(({ name, items }, at) =>
    parts.push(`${items} items that ${name} names, trusted ${theta.opinionsTrust[at]!.toFixed(2)}`),
  );
  if (status.theta.biasBytes) parts.push(`the item bias takes ${bytes(status.theta.biasBytes)}`);
  canvas.setAttribute("aria-label", `${values.length} weights, the largest ${largest.toPrecision(2)}`);
  say("theta-about", `${parts.join("; ")}. Trust falls with every event since.`);
}
