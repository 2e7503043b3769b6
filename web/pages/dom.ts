/** A few words for making elements: no markup is ever parsed, so no text can become one. */
type Child = Node | string;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

export function byId<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return found as T;
}

export const say = (id: string, text: string): void => {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
};

export const bytes = (count: number): string =>
  count < 1000 ? `${count} B` : count < 1e6 ? `${(count / 1000).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;

export const milliseconds = (count: number): string => `${count < 10 ? count.toFixed(2) : count < 100 ? count.toFixed(1) : count.toFixed(0)} ms`;

/** What the browser keeps for a page; where it keeps nothing, the page does while it is open. */
export function storage(name: "localStorage" | "sessionStorage"): Pick<Storage, "getItem" | "setItem" | "removeItem"> {
  try {
    return globalThis[name];
  } catch {
    const kept = new Map<string, string>();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => void kept.set(key, value),
      removeItem: (key) => void kept.delete(key),
    };
  }
}
