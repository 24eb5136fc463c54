/**
 * What happens, as it happens: server-sent events. One stream a path, shared by all that listen, closed while the page
 * is hidden (browsers give a server six connections), and taken up again where it stopped: nothing is lost or doubled,
 * and where the server can't go on, it says `reset`.
 */
import { useEffect, useRef, useState } from "./vendor/preact.js";
import { folder } from "./api.js";

/** @typedef {Record<string, (data: any) => void>} Handlers by the name of the event */

const EVENTS = ["hello", "reset", "runs", "run", "inbox", "spans", "tokens", "end"];
const AGAIN = [300, 1000, 3000, 10000]; // ms between tries

/** @type {Map<string, Stream>} */
const streams = new Map();
/** @type {Set<() => void>} */
const watchers = new Set();

class Stream {
  /** @param {string} path */
  constructor(path) {
    this.path = path;
    /** @type {Set<Handlers>} */
    this.listeners = new Set();
    this.last = "";
    this.tries = 0;
    this.over = false;
    this.down = false;
    /** @type {EventSource | null} */
    this.source = null;
    this.timer = 0;
  }

  open() {
    if (this.source || this.over || document.hidden) return;
    const source = new EventSource(this.last ? `${this.path}?last=${encodeURIComponent(this.last)}` : this.path);
    this.source = source;
    source.onopen = () => {
      this.tries = 0;
      this.lost(false);
    };
    source.onerror = () => {
      this.close();
      if (!this.over) this.timer = setTimeout(() => this.open(), AGAIN[Math.min(this.tries++, AGAIN.length - 1)]);
      if (this.tries > 1) this.lost(true);
    };
    for (const name of EVENTS)
      source.addEventListener(name, (event) => {
        if (event.lastEventId) this.last = event.lastEventId;
        if (name === "end") this.finish();
        this.tell(name, JSON.parse(event.data || "{}"));
      });
  }

  /** @param {string} name @param {any} data */
  tell(name, data) {
    for (const handlers of [...this.listeners]) handlers[name]?.(data);
  }

  finish() {
    this.over = true;
    this.close();
    this.lost(false);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  /** @param {boolean} down */
  lost(down) {
    if (this.down === down) return;
    this.down = down;
    for (const watcher of watchers) watcher();
  }
}

/** Listen until the function that comes back is called. @param {string} path @param {Handlers} handlers */
export function listen(path, handlers) {
  if (folder) return () => {};
  let stream = streams.get(path);
  if (!stream) streams.set(path, (stream = new Stream(path)));
  const mine = stream;
  mine.listeners.add(handlers);
  mine.open();
  return () => {
    mine.listeners.delete(handlers);
    if (mine.listeners.size) return;
    mine.close();
    streams.delete(path);
    for (const watcher of watchers) watcher();
  };
}

/** Listen while a view is shown. @param {string | null} path null: to nothing @param {Handlers} handlers */
export function useLive(path, handlers) {
  const current = useRef(handlers);
  current.current = handlers;
  useEffect(() => {
    if (path === null) return;
    const passed = Object.fromEntries(EVENTS.map((name) => [name, (data) => current.current[name]?.(data)]));
    return listen(path, passed);
  }, [path]);
}

/** `live`, or `lost` while a stream is down, or `folder`. */
export function useLink() {
  const state = () => (folder ? "folder" : [...streams.values()].some((stream) => stream.down) ? "lost" : "live");
  const [now, set] = useState(state());
  useEffect(() => {
    const look = () => set(state());
    watchers.add(look);
    look();
    return () => void watchers.delete(look);
  }, []);
  return now;
}

document.addEventListener("visibilitychange", () => {
  for (const stream of streams.values()) document.hidden ? stream.close() : stream.open();
});
