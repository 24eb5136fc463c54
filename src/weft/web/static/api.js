/**
 * The one way to data: JSON from the server, or, in an exported folder, from the files that lie beside the page
 * (`folder.js`). The shapes are those of docs/reference/web-api.md.
 */
import { useEffect, useRef, useState } from "./vendor/preact.js";
import { readFolder } from "./folder.js";

/** Whether this page is a folder on a disk: nothing lives, and nothing can be done. */
export const folder = document.querySelector("meta[name=weft-folder]") !== null;

/** What the server said instead of an answer. `message` is for people. */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** @param {string} path @param {Record<string, any>} [query] lists repeat; empty values are left out */
export function address(path, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of Array.isArray(value) ? value : [value])
      if (one != null && one !== "") search.append(name, String(one));
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

/** Answers that were asked for before anybody wanted them, each for one reader. @type {Map<string, Promise<any>>} */
const early = new Map();

/** Ask now for what a view will want in a moment, while its code is on its way. @param {string} path @param {Record<string, any>} [query] */
export function ahead(path, query = {}) {
  if (folder) return;
  const url = address(path, query);
  const answer = ask(url, {});
  answer.catch(() => {}); // whoever wants it is told
  early.set(url, answer);
  setTimeout(() => early.delete(url), 5000);
}

/** @param {string} path @param {Record<string, any>} [query] @param {AbortSignal} [signal] @returns {Promise<any>} */
export function get(path, query = {}, signal) {
  if (folder) return readFolder(path, query);
  const url = address(path, query);
  const asked = early.get(url);
  early.delete(url);
  return asked ?? ask(url, { signal });
}

/** Do something. @param {string} path @param {object} [body] @returns {Promise<any>} */
export function post(path, body = {}) {
  if (folder)
    return Promise.reject(new ApiError(0, "folder", "This is a saved run: nothing can be done to it from here."));
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Weft": "1" },
    body: JSON.stringify(body),
  });
}

/** @param {string} url @param {RequestInit} options */
async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(
      0,
      "unreachable",
      "The server doesn't answer. Is `weft web` still running? This page goes on by itself when it is back.",
    );
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => null);
  if (answer.ok) return said;
  if (answer.status === 401) dispatchEvent(new Event("weft-signed-out"));
  const { code = "unknown", message = `the server answered ${answer.status}` } = said?.error ?? {};
  throw new ApiError(answer.status, code, message);
}

/**
 * An answer, again whenever what is asked changes; the one before stays until the new one is there.
 * @param {string | null} path null: ask nothing
 * @param {Record<string, any>} [query]
 * @returns {{ data: any, error: Error | null, ready: boolean, again: () => void, put: (data: any) => void }}
 */
export function useGet(path, query = {}) {
  const url = path === null ? null : address(path, query);
  const [held, hold] = useState({ url, data: null, error: /** @type {Error | null} */ (null), ready: false });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === null) return hold({ url, data: null, error: null, ready: false });
    const stop = new AbortController();
    get(path, query, stop.signal).then(
      (data) => stop.signal.aborted || hold({ url, data, error: null, ready: true }),
      (error) =>
        stop.signal.aborted || hold((old) => ({ url, data: old.url === url ? old.data : null, error, ready: false })),
    );
    return () => stop.abort();
  }, [url, turn]);
  const calls = useRef({
    again: () => setTurn((n) => n + 1),
    put: (data) => hold((old) => ({ ...old, data: typeof data === "function" ? data(old.data) : data })),
  }).current;
  return { data: held.data, error: held.error, ready: held.ready, ...calls };
}

/** What the server is, asked once a sign-in. @returns {Promise<any>} */
export const about = () => get("/api/about");

/** Exchange the token of this page's address, if there is one, for a cookie; it is in no history and no log then. */
export async function takeToken() {
  const found = location.hash.match(/^#token=(.+)$/);
  if (!found) return;
  history.replaceState(null, "", `${location.pathname}#/runs`);
  dispatchEvent(new Event("hashchange"));
  await signIn(decodeURIComponent(found[1]));
}

/** @param {string} token */
export const signIn = (token) => post("/api/session", { token });
