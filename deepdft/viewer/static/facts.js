// The numbers of a finished prediction: counts, charges, trust, downloads.

import * as api from "./api.js";
import { ofCharge } from "./colour.js";
import { fieldsOf } from "./fields.js";
import { signed } from "./picture.js";
import { state } from "./state.js";

const $ = (id) => document.getElementById(id);
const make = (tag, text = "", attributes = {}) => Object.assign(document.createElement(tag), { textContent: text, ...attributes });

// A formula with its numbers as subscripts.
export function formulaParts(formula) {
  return formula.split(/(\d+)/).filter(Boolean).map((part) => (/\d/.test(part) ? make("sub", part) : part));
}

export function facts({ id, result }) {
  $("title").replaceChildren(`${result.label} `, ...(result.labels || result.label === result.formula ? [] : ["(", ...formulaParts(result.formula), ")"]));
  tiles(result);
  rows(result);
  trust(result);
  charges(result);
  $("python").textContent = result.python;
  links(id, result);
}

// Where the files of what is drawn are.
export function links(id, result) {
  const field = fieldsOf(state.field)[0], usable = result.fields.includes(field) ? field : "density";
  for (const kind of ["cube", "chgcar", "h5"]) $(`get-${kind}`).href = api.fileAddress(id, kind, usable);
}

function tiles(result) {
  const found = [[`${result.n_electrons.toFixed(2)}`, result.expected_electrons ? `electrons of ${result.expected_electrons}` : "electrons"]];
  if (result.dipole_debye !== undefined) found.push([`${result.dipole_debye.toFixed(2)} D`, "dipole moment"]);
  if (result.eps_mae !== undefined) found.push([`${result.eps_mae.toFixed(2)} %`, result.labels ? "difference, of all electrons" : "ε_mae, of all electrons"]);
  $("tiles").replaceChildren(...found.map(([value, name]) => {
    const tile = document.createElement("div");
    tile.append(make("b", value), make("span", name));
    return tile;
  }));
}

function rows(result) {
  const list = [["Atoms", `${result.n_atoms}`], ["Grid", `${result.shape.join(" × ")}, ${result.spacing.toFixed(2)} Å`], ["Time taken", `${result.seconds.toFixed(2)} s`]];
  if (result.pbc.some(Boolean)) {
    const length = (v) => Math.hypot(...v).toFixed(2);
    list.splice(1, 0, ["Cell", `${result.cell.map(length).join(" × ")} Å`]);
  }
  $("numbers").replaceChildren(...list.flatMap(([name, text]) => [make("dt", name), make("dd", text)]));
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`.replace(/([.!?])\.$/, "$1");

// How far to trust a prediction, in words: [kind, text] each.
function trustWords({ trust, warnings, is_prediction, expected_electrons: expected, n_electrons, spacing }) {
  const said = [];
  if (trust?.expected_eps_mae) {
    said.push(["", `About ${trust.expected_eps_mae.toPrecision(2)} % of the electrons are expected in the wrong place. (Kinds of DFT differ from each other by about 0.6 %, and free atoms side by side are off by about 8 %.)`]);
  }
  if (trust?.outside) said.push(["warn", `Outside what the model knows: ${trust.reasons.join("; ")}. The picture may be wrong, and nobody can say by how much.`]);
  else if (trust && !trust.expected_eps_mae) said.push(["note", `The model does not say how large its error is: ${trust.words.replace("no estimate: ", "")}.`]);
  if (trust?.spread) said.push(["note", `The members of the ensemble differ by ${trust.spread.toPrecision(2)} %.`]);
  if (expected && is_prediction) {
    const off = Math.abs(n_electrons / expected - 1) * 100;
    if (off <= 1) said.push(["", `It holds the right number of electrons, to ${Math.max(off, 0.01).toFixed(2)} %.`]);
    else if (spacing > 0.21) said.push(["note", `On this coarse grid the electrons add up to ${off.toFixed(1)} % too ${n_electrons > expected ? "many" : "few"}: choose a finer one to count them.`]);
  }
  for (const text of warnings) said.push([is_prediction ? "warn" : "note", sentence(text)]);
  if (is_prediction) said.push(["note", "Predictions are for neutral structures in their ground state."]);
  return said;
}

function trust(result) {
  const said = trustWords(result);
  $("trust-title").textContent = result.is_prediction ? "How far to trust it" : "What this is";
  $("trust").hidden = said.length === 0;
  $("trust-list").replaceChildren(...said.map(([kind, text]) => make("li", text, { className: kind })));
}

function charges(result) {
  $("charges-box").hidden = !result.charges;
  const top = Math.max(0.1, ...(result.charges ?? []).map(Math.abs));
  $("charges").replaceChildren(...(result.charges ?? []).map((charge, i) => {
    const row = document.createElement("tr"), bar = make("td", "", { className: "bar" }), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect"), width = 50 * Math.abs(charge) / top;
    for (const [name, value] of Object.entries({ x: charge < 0 ? 50 - width : 50, y: 1, width, height: 8, fill: ofCharge(Math.sign(charge) * 0.35) })) rect.setAttribute(name, value);
    svg.setAttribute("viewBox", "0 0 100 10");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(rect);
    bar.append(svg);
    row.append(make("td", `${result.symbols[i]}${i + 1}`), bar, make("td", signed(charge, 3)));
    return row;
  }));
}
