/**
 * A run as a folder: the answers lie as scripts below `data/`, since a page from a disk may not fetch. Each calls
 * `weftData(PATH, ANSWER)`. What the server would work out (a window of rows, the next that failed) is worked out here.
 */

/** @type {Map<string, Promise<any>>} */
const files = new Map();
/** @type {any} */
let arrived;

globalThis.weftData = (/** @type {string} */ _path, answer) => {
  arrived = answer;
};

const ROWS = 1000;
const EFFECTS = 100;

/** @param {string} name @returns {Promise<any>} */
function file(name) {
  let found = files.get(name);
  if (!found) {
    found = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => {
        script.remove();
        resolve(arrived);
      };
      script.onerror = () => {
        script.remove();
        reject(
          new Error(
            `data/${name}.js is not in this folder. Export the run again, with all of its files: weft export RUN --page DIR`,
          ),
        );
      };
      document.head.append(script);
    });
    files.set(name, found);
  }
  return found;
}

/** @param {string} path @param {Record<string, any>} query @returns {Promise<any>} */
export async function readFolder(path, query) {
  const parts = path.split("/").slice(2); // "", "api", …
  if (parts[0] === "about") return file("about");
  if (parts[0] === "effects") return effect(parts[1]);
  if (parts[0] === "inbox") return { items: [] };
  if (parts[0] !== "runs") throw nothing();
  if (parts.length === 1) return file("runs");
  switch (parts[2]) {
    case undefined:
      return run(parts[1]);
    case "rows":
      return rows(query);
    case "find":
      return find(query);
    case "buckets":
      return file("buckets");
    case "logs":
      return logs(query);
    case "tree":
    case "graph":
    case "template":
    case "costs":
    case "memory":
    case "unusual":
      return file(parts[2]);
  }
  throw nothing();
}

function nothing() {
  return new Error(
    "This is a saved run: it has its timeline, graph, log, memory, processes and costs, and nothing else of the store.",
  );
}

/** The exported run; of one below it what its row says. @param {string} id */
async function run(id) {
  const whole = await file("run");
  if (whole.id === id) return whole;
  const row = await first((one) => one.id === id);
  if (!row) throw new Error(`there is no run ${id} in this folder`);
  return { ...row, workflow: row.name, state: row.status, started: row.start, ended: row.end, partOf: whole.id };
}

/** @param {(row: any) => boolean} fits @param {number} [from] @param {boolean} [back] */
async function first(fits, from = 0, back = false) {
  const { total } = await file("rows-0");
  for (let at = from; at >= 0 && at < total; at += back ? -1 : 1) {
    const row = (await file(`rows-${Math.floor(at / ROWS) * ROWS}`)).rows[at % ROWS];
    if (row && fits(row)) return row;
  }
  return null;
}

/** @param {Record<string, any>} query @returns {(row: any) => boolean} */
function fitting({ q, kind, status }) {
  const text = q?.toLowerCase();
  const among = (wanted, value) => !wanted || [wanted].flat().includes(value);
  return (row) =>
    among(kind, row.kind) &&
    among(status, row.status) &&
    (!text || [row.name, row.id, row.note].some((part) => part?.toLowerCase().includes(text)));
}

/** @param {Record<string, any>} query */
async function rows(query) {
  const head = await file("rows-0");
  const { from = 0, count = 200, at } = query;
  if (at) {
    const found = await first((row) => row.id === at);
    return { ...head, rows: found ? [found] : [], found: found?.index ?? null };
  }
  if (query.q || query.kind || query.status) {
    const fits = fitting(query);
    const all = [];
    for (let start = 0; start < head.total; start += ROWS) all.push(...(await file(`rows-${start}`)).rows.filter(fits));
    return { ...head, total: all.length, rows: all.slice(from, from + count) };
  }
  const found = [];
  for (let start = Math.floor(from / ROWS) * ROWS; start < Math.min(from + count, head.total); start += ROWS)
    found.push(...(await file(`rows-${start}`)).rows.slice(Math.max(0, from - start), from + count - start));
  return { ...head, rows: found };
}

/** @param {Record<string, any>} query */
async function find(query) {
  const row = await first(fitting(query), Number(query.from ?? 0) - (query.back ? 1 : 0), Boolean(query.back));
  return { index: row?.index ?? null, id: row?.id ?? null };
}

/** @param {Record<string, any>} query */
async function logs({ after }) {
  const all = await file("logs");
  return after ? { items: [], next: null } : all;
}

/** @param {string} id */
async function effect(id) {
  const row = await first((one) => one.id === decodeURIComponent(id));
  if (!row) throw new Error(`there is no effect ${id} in this folder`);
  const found = (await file(`effects-${Math.floor(row.index / EFFECTS) * EFFECTS}`))[row.id];
  if (!found) throw new Error(`the folder has the row of ${id}, and not what is in it`);
  return found;
}
