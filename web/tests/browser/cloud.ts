/** A real cloud, and a way to it that can be cut or meddled with. */
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PYTHON = process.env.DUET_PYTHON ?? "python3";
/** Folders `first` and `second`, each a bundle with its generator. */
export const BUNDLES = process.env.DUET_BUNDLES ?? "";

export class Cloud {
  url = "";
  private process: ChildProcess | null = null;
  readonly registry = mkdtempSync(join(tmpdir(), "duet-web-"));

  constructor(private readonly flags: string[] = ["--demo"]) {
    this.publish("first");
  }

  modelId(name: string): string {
    return JSON.parse(readFileSync(join(BUNDLES, name, "manifest.json"), "utf8")).model_id;
  }

  /** Put a version into the registry, as the one to run. */
  publish(name: string): void {
    cpSync(join(BUNDLES, name), join(this.registry, name), { recursive: true });
    writeFileSync(join(this.registry, "rollout.json"), JSON.stringify({ latest: this.modelId(name) }));
  }

  async start(): Promise<this> {
    const port = this.url ? new URL(this.url).port : "0";
    const command = ["-m", "duetgen", "serve", this.registry, "--json", "--port", port, "--poll", "0.2", ...this.flags];
    this.process = spawn(PYTHON, command, { stdio: ["ignore", "pipe", "ignore"] });
    this.url = await new Promise<string>((resolve, reject) => {
      let said = "";
      this.process!.stdout!.on("data", (part: Buffer) => {
        said += part.toString();
        const line = said.split("\n").find((one) => one.startsWith("{"));
        if (line && said.includes("\n")) resolve(JSON.parse(line).url);
      });
      this.process!.once("exit", (code) => reject(new Error(`the cloud ended with ${code}`)));
    });
    return this;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.process!.once("exit", resolve));
    this.process!.kill("SIGINT");
    await ended;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.registry, { recursive: true, force: true });
  }
}

/** What passes everything on to a cloud, until told otherwise. */
export class Way {
  url = "";
  /** Changes the bytes of an answer with theta. */
  tamper: ((content: Buffer) => Buffer) | null = null;
  /** Breaks every connection off. */
  cut = false;
  /** Answers with these contents instead, by path. */
  readonly own = new Map<string, [type: string, content: string | Buffer]>();
  asked = 0;
  private server!: Server;

  constructor(private readonly to: () => string) {}

  async open(): Promise<this> {
    this.server = createServer((question, answer) => this.pass(question, answer));
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
    return this;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private pass(question: IncomingMessage, answer: ServerResponse): void {
    if (this.cut) return void question.socket.destroy();
    const mine = this.own.get(question.url!);
    if (mine) {
      answer.writeHead(200, { "content-type": mine[0] });
      return void answer.end(mine[1]);
    }
    const theta = question.url === "/v1/parameters";
    if (theta) this.asked++;
    const on = request(new URL(question.url!, this.to()), { method: question.method, headers: question.headers }, (back) => {
      const parts: Buffer[] = [];
      back.on("data", (part: Buffer) => parts.push(part));
      back.on("end", () => {
        const content = Buffer.concat(parts);
        answer.writeHead(back.statusCode!, back.headers);
        answer.end(theta && this.tamper && back.statusCode === 200 ? this.tamper(content) : content);
      });
    });
    on.on("error", () => question.socket.destroy());
    question.pipe(on);
  }
}
