// What is asked for and how it is drawn; the address of the page holds all of it.

import { DERIVED } from "./fields.js";

export const state = {
  structure: "", upload: "", compare: "", compare_upload: "", spacing: "0.2", fields: [], field: "density", level: null, opacity: 60,
  colour: "none", paint: "element", slice: false, offset: 0, tilt: null, turn: null, labels: false, dipole: false, repeat: false, view: null,
};
const initial = { ...state };
const NUMBERS = new Set(["level", "opacity", "offset", "tilt", "turn"]);

export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, initial);
  for (const [key, text] of given) {
    if (!(key in state)) continue;
    if (key === "fields") state.fields = text.split(",").filter((name) => DERIVED.includes(name));
    else if (key === "view") state.view = numbers(text.split(","), 8);
    else if (typeof initial[key] === "boolean") state[key] = text === "true";
    else if (NUMBERS.has(key)) state[key] = Number.isFinite(Number(text)) ? Number(text) : initial[key];
    else state[key] = text;
  }
}

function numbers(texts, count) {
  const list = texts.map(Number);
  return list.length === count && list.every(Number.isFinite) ? list : null;
}

export function writeAddress() {
  const address = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value === initial[key] || value === null || value.length === 0) continue;
    address.set(key, key === "level" ? value.toPrecision(3) : key === "view" ? value.map((x) => x.toFixed(3)).join(",") : value);
  }
  history.replaceState(null, "", `#${address}`);
}

// Forget how the last structure was drawn, but not how the reader likes pictures.
export function forget() {
  const { structure, upload, compare, compare_upload, fields, field, level, colour, paint, offset, tilt, turn, repeat, view } = initial;
  Object.assign(state, { structure, upload, compare, compare_upload, fields, field, level, colour, paint, offset, tilt, turn, repeat, view });
}
