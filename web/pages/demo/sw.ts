/** Keeps the page for when there is no network: asks the network first, and takes what it kept if there is no answer. */
interface Fetched extends Event {
  request: Request;
  respondWith(answer: Promise<Response>): void;
  waitUntil(work: Promise<unknown>): void;
}
interface Scope {
  addEventListener(name: string, heard: (event: Fetched) => void): void;
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
}
const scope = globalThis as unknown as Scope;
const CACHE = "duet-page";
// A worker is a client of its own: its scripts lie in the scope of this one, or they would not come without a network.
const KEPT = ["./", "worker.js", "asking-worker.js", "operators-worker.js", "icon.svg"];

scope.addEventListener("install", (event) =>
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(KEPT))
      .then(() => scope.skipWaiting()),
  ),
);
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (event) => {
  const { pathname } = new URL(event.request.url);
  // What the device asks the cloud is the device's own to keep.
  if (event.request.method !== "GET" || !/\/demo\//.test(pathname)) return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(CACHE);
      try {
        const answer = await fetch(event.request);
        if (answer.ok) await cache.put(event.request, answer.clone());
        return answer;
      } catch (cause) {
        const kept = await cache.match(event.request, { ignoreSearch: true });
        if (kept) return kept;
        throw cause;
      }
    })(),
  );
});
