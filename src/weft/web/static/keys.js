/**
 * The keyboard. A view says which keys it takes while it is shown (`useKeys`); the last one that takes a key gets it.
 * Keys typed into a field are the field's, except Escape, which leaves it.
 */
import { useEffect, useRef } from "./vendor/preact.js";

/** @typedef {Record<string, (event: KeyboardEvent) => void>} Takes what each key does, by `event.key` */
/** @type {{ takes: Takes, says: Record<string, string> }[]} */
const layers = [];

/** @param {Takes} takes as they are drawn: keys that follow each other quickly see what the one before did
 * @param {Record<string, string>} [says] words for the help, by key */
export function useKeys(takes, says = {}) {
  const layer = useRef({ takes, says }).current;
  Object.assign(layer, { takes, says });
  useEffect(() => {
    layers.push(layer);
    return () => void layers.splice(layers.indexOf(layer), 1);
  }, []);
}

/** What the keys do here, those of the innermost view first. @returns {[string, string][]} */
export function help() {
  return [...layers].reverse().flatMap((layer) => Object.entries(layer.says));
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const at = /** @type {HTMLElement} */ (event.target);
  const typing = at.closest?.("input, textarea, select, [contenteditable]");
  if (typing) {
    if (event.key === "Escape") /** @type {HTMLElement} */ (typing).blur();
    if (event.key !== "Escape" || at.closest("dialog")) return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return; // it has keys of its own
  if (event.key === "Enter" && at.closest?.("a, button, summary")) return;
  for (const { takes } of [...layers].reverse()) {
    const does = takes[event.key];
    if (does) {
      event.preventDefault();
      does(event);
      return;
    }
  }
}

addEventListener("keydown", pressed);
