/**
 * Where the reader is. A place is `#/path?name=value`: it stands after the hash, so that the same page works from a
 * server and from a folder. Nothing else holds state that a reader would want to send to somebody.
 */
import { useEffect, useState } from "./vendor/preact.js";

/** @typedef {{ path: string[], query: Record<string, string> }} Place */

/** @param {string} [hash] @returns {Place} */
export function place(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  return {
    path: path.split("/").filter(Boolean).map(decodeURIComponent),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** The hash of a place. Empty values are left out. @param {(string | number)[]} path @param {Record<string, any>} [query] */
export function to(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const search = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `#/${path.map((part) => encodeURIComponent(part)).join("/")}${search && `?${search}`}`;
}

/** Go there. `instead`: without a step in the history. @param {string} hash @param {boolean} [instead] */
export function go(hash, instead = false) {
  if (hash === location.hash) return;
  if (!instead) {
    location.hash = hash;
    return;
  }
  history.replaceState(null, "", hash);
  dispatchEvent(new Event("hashchange"));
}

/** Change some of the query here. @param {Record<string, any>} changes @param {boolean} [instead] */
export function amend(changes, instead = true) {
  const here = place();
  go(to(here.path, { ...here.query, ...changes }), instead);
}

/** The place, again whenever it changes. @returns {Place} */
export function usePlace() {
  const [[hash, here], set] = useState(() => [location.hash, place()]);
  useEffect(() => {
    const moved = () => set([location.hash, place()]);
    addEventListener("hashchange", moved);
    if (location.hash !== hash) moved(); // somebody went on between the first drawing and this
    return () => removeEventListener("hashchange", moved);
  }, []);
  return here;
}
