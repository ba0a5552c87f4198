// The page: asks for predictions, shows them, and listens to the reader.

import * as api from "./api.js";
import { onScheme } from "./colour.js";
import { facts, formulaParts, links } from "./facts.js";
import { COLOURS, DERIVED, SIDE_BY_SIDE, labelOf, modesOf } from "./fields.js";
import { navigate } from "./navigation.js";
import { Picture } from "./picture.js";
import { forget, readAddress, state, writeAddress } from "./state.js";

const $ = (id) => document.getElementById(id);
let settings, picture, shown = null, running = null, newest = 0;

// ---- asking ------------------------------------------------------------------------------------------------------

function say(text) { $("status").textContent = text; }

function fail(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? error.message : "";
  $("structure").setAttribute("aria-invalid", Boolean(error));
}

// Await a prediction that is started by `start`; null if a newer one was requested meanwhile.
async function awaited(start, doing, turn) {
  const { id } = await start();
  if (turn !== newest) { api.cancel(id).catch(() => {}); return null; }
  running = id;
  const result = await api.finished(id, (status) => {
    if (turn !== newest) return;
    $("bar").value = status.progress;
    $("busy-text").textContent = status.state === "waiting" ? `Waiting, ${status.ahead} before this one` : `${doing} ${Math.round(100 * status.progress)} %`;
  });
  return turn === newest ? { id, result } : null;
}

// Do several predictions in turn and show the last; older ones are given up.
async function run(...steps) {
  if (running) api.cancel(running).catch(() => {});
  fail(null);
  say("");
  const turn = ++newest, began = performance.now();
  $("busy").hidden = false;
  $("bar").value = 0;
  try {
    let found = null;
    for (const [start, doing] of steps) {
      $("busy-text").textContent = doing;
      const before = found;
      found = await awaited(() => start(before), doing, turn);
      if (!found) return;
    }
    await show(found);
    say(`${found.result.label}: ready after ${((performance.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    if (turn !== newest) return;
    if (error instanceof api.Cancelled) say("Cancelled.");
    else fail(error);
  } finally {
    if (turn === newest) { running = null; $("busy").hidden = true; }
  }
}

const source = (structure, upload) => (upload ? { upload } : { structure });

// Predict what the state has, and what it is compared with.
function predict() {
  const spacing = Number(state.spacing);
  const first = () => api.predict({ ...source(state.structure, state.upload), spacing, fields: state.fields });
  if (!state.compare && !state.compare_upload) return run([first, "Predicting"]);
  let kept;
  return run([first, "Predicting the first"],
    [(found) => { kept = found.id; return api.predict({ ...source(state.compare, state.compare_upload), spacing }); }, "Predicting the second"],
    [(found) => api.compare(kept, found.id), "Comparing"]);
}

async function ask(text) {
  forget();
  state.structure = text;
  $("structure").value = text;
  await predict();
}

async function received(file) {
  const { limits } = settings;
  if (file.size > limits.max_upload_bytes) throw new Error(`${file.name}: at most ${limits.max_upload_bytes / 2 ** 20} MB are taken`);
  say(`Reading ${file.name}`);
  return api.upload(file);
}

async function open(file) {
  fail(null);
  try {
    const { id, has_density } = await received(file);
    forget();
    state.upload = id;
    state.field = has_density ? "difference" : "density";
    $("structure").value = "";
    await predict();
  } catch (error) { fail(error); say(""); }
}

function compareWith(structure, upload) {
  Object.assign(state, { compare: structure, compare_upload: upload, field: "difference", level: null, fields: [], colour: "none", view: null });
  return predict();
}

// ---- showing -----------------------------------------------------------------------------------------------------

async function show(found) {
  shown = found;
  const { result } = found;
  document.body.classList.add("shown");
  document.title = `${result.label} – deepdft`;
  $("welcome").hidden = true;
  $("look").disabled = false;
  for (const id of ["facts", "modes", "tools", "bar-below"]) $(id).hidden = false;
  const modes = modesOf(result), ready = (mode) => modes.includes(mode) && (!DERIVED.includes(mode) || result.fields.includes(mode));
  if (!ready(state.field)) { state.field = "density"; state.level = null; }
  radios(modes, result);
  const colours = Object.keys(COLOURS).filter((name) => name === "none" || result.fields.includes(name));
  if (!colours.includes(state.colour)) state.colour = "none";
  options("colour", colours, COLOURS, state.colour);
  const paints = ["element", ...(result.charges ? ["charge"] : []), ...(result.trust?.novelty ? ["trust"] : [])];
  if (!paints.includes(state.paint)) state.paint = "element";
  options("paint", paints, { element: "element", charge: "charge", trust: "trust" }, state.paint);
  const repeats = result.pbc.some(Boolean);
  $("repeat-row").hidden = !repeats;
  $("dipole-row").hidden = !result.dipole_vector_debye;
  if (!repeats) state.repeat = false;
  $("compare-box").hidden = !result.is_prediction || Boolean(result.labels);
  controls();
  facts(found);
  await picture.show(found);
  update();
}

function radios(modes, result) {
  $("modes").replaceChildren(...modes.map((mode) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "mode", value: mode, checked: mode === state.field });
    input.addEventListener("change", () => choose(mode));
    label.append(input, labelOf(mode, result));
    return label;
  }));
}

async function choose(mode) {
  const beside = (mode === SIDE_BY_SIDE) !== (state.field === SIDE_BY_SIDE);
  state.field = mode;
  state.level = null;
  if (!shown.result.fields.includes(mode) && DERIVED.includes(mode)) {
    state.fields = [...DERIVED];
    await predict();
    return;
  }
  links(shown.id, shown.result);
  await (beside ? picture.all(true) : Promise.all([picture.surfaces(), picture.cut()]));
  update();
}

function options(id, names, labels, chosen) {
  $(id).replaceChildren(...names.map((name) => new Option(labels[name] ?? name, name, false, name === chosen)));
}

// After a change: the address, and what depends on the level.
function update() {
  writeAddress();
  if (shown && state.level) $("get-stl").href = api.printAddress(shown.id, picture.query(shown.result.fields.includes(state.field) ? state.field : "density", state.level));
}

function controls() {
  $("structure").value = state.structure;
  $("compare-with").value = state.compare;
  $("spacing").value = state.spacing;
  if (!$("spacing").value) { state.spacing = "0.2"; $("spacing").value = "0.2"; }
  $("opacity").value = state.opacity;
  for (const id of ["labels", "repeat", "slice", "dipole"]) $(id).checked = state[id];
}

// ---- events ------------------------------------------------------------------------------------------------------

function onInput(id, key, then, read = (element) => Number(element.value)) {
  $(id).addEventListener("input", async (event) => { state[key] = read(event.target); await then(); update(); });
}

function onFile(button, input, then) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", (event) => { if (event.target.files[0]) then(event.target.files[0]); event.target.value = ""; });
}

function listen() {
  const checked = (element) => element.checked, text = (element) => element.value;
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("structure").value.trim();
    if (name) ask(name);
    else { fail(new Error("Type a name such as caffeine, or a SMILES such as CCO, or open a file.")); $("structure").focus(); }
  });
  $("cancel").addEventListener("click", () => running && api.cancel(running).catch(fail));
  onFile("open", "file", open);
  onInput("spacing", "spacing", () => (shown ? predict() : null), text);
  onInput("colour", "colour", () => picture.surfaces(), text);
  onInput("paint", "paint", () => picture.all(), text);
  onInput("level", "level", () => picture.surfaces(), (element) => { const [low, high] = picture.bounds(); return low * (high / low) ** (Number(element.value) / 1000); });
  onInput("opacity", "opacity", () => picture.surfaces());
  for (const key of ["labels", "dipole"]) onInput(key, key, () => picture.all(), checked);
  onInput("repeat", "repeat", () => { state.view = null; return picture.all(true); }, checked);
  onInput("slice", "slice", () => picture.cut(), checked);
  for (const key of ["offset", "tilt", "turn"]) onInput(key, key, () => picture.cut());
  $("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("compare-with").value.trim();
    if (name) compareWith(name, "");
    else { fail(new Error("Type the name or SMILES of what to compare with.")); $("compare-with").focus(); }
  });
  onFile("compare-open", "compare-file", async (file) => {
    try { await compareWith("", (await received(file)).id); } catch (error) { fail(error); say(""); }
  });
  $("get-png").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = picture.first.png();
    link.download = `${shown.result.formula}_${state.field}.png`;
    link.click();
  });
  $("copy").addEventListener("click", () => navigator.clipboard.writeText($("python").textContent)
    .then(() => say("Copied."), () => fail(new Error("The browser did not allow copying: select the text instead."))));
  dropping();
  navigate(picture.first, () => Boolean(shown));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && running) api.cancel(running).catch(fail); });
  window.addEventListener("hashchange", restore);
  onScheme(() => picture.all());
}

function dropping() {
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
    });
  }
}

async function restore() {
  readAddress();
  controls();
  if (state.structure || state.upload) await predict();
}

// ---- the start ---------------------------------------------------------------------------------------------------

function example(name, formula) {
  const button = document.createElement("button");
  button.type = "button";
  button.addEventListener("click", () => ask(name));
  if (!formula) { button.textContent = name; return button; }
  const bold = document.createElement("b"), quiet = document.createElement("span");
  bold.textContent = name;
  quiet.append(...formulaParts(formula));
  button.append(bold, quiet);
  return button;
}

async function begin() {
  try {
    settings = await api.info();
    $("model").textContent = `Model: ${settings.model}. deepdft ${settings.version}.`;
    $("examples").replaceChildren(...settings.examples.map((name) => new Option(name, name)));
    $("chips").replaceChildren(...settings.gallery.slice(0, 6).map(({ name }) => example(name)));
    $("gallery").replaceChildren(...settings.gallery.map(({ name, formula }) => example(name, formula)));
    picture = new Picture(fail);
    listen();
    await restore();
    document.body.dataset.ready = "true";
  } catch (error) { fail(error); }
}

begin();
