/** Light or dark: as the system says, until the reader says otherwise. */

const KEPT = "weft-theme";

/** @returns {"light" | "dark"} */
export function theme() {
  const said = read();
  if (said === "light" || said === "dark") return said;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export function applyTheme() {
  document.documentElement.dataset.theme = theme();
}

export function otherTheme() {
  try {
    localStorage.setItem(KEPT, theme() === "dark" ? "light" : "dark");
  } catch {
    // a browser that keeps nothing for files shows the system's
  }
  applyTheme();
  dispatchEvent(new Event("weft-theme"));
}

function read() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
