// The page: what was asked for, what is shown, and the address that holds both.

import * as api from "./api.js";
import { GAIN, LOSS, SINGLE, mapped, scaleOf } from "./colour.js";
import { Scene } from "./scene.js";

const $ = (id) => document.getElementById(id);
const SIGNED = new Set(["difference", "deformation"]);
const HINTS = {
  density: "Electrons per cubic ångström. Low values enclose the whole molecule, high values the bonds and nuclei.",
  deformation: "Where electrons went when the bonds formed: blue gained, orange lost, compared with free atoms side by side.",
  reference: "The density of the file.",
  difference: "Blue: the first has more electrons here; orange: fewer.",
  iri: "Low values mark bonds and contacts between molecules.",
  dori: "Near 1 where the densities of atoms overlap.",
};
const UNITS = { iri: "", dori: "" };

const state = { structure: "", spacing: "0.2", field: "density", level: null, opacity: 70, colour: "none", slice: false,
  offset: 0, tilt: 0, turn: 0, labels: false, repeat: false, fields: [] };
let scene, shown = null, upload = null, running = null, kept = null, sceneData = null, fresh = 0;

// ---- the address -------------------------------------------------------------------------------------------------

const SAVED = ["structure", "spacing", "field", "level", "opacity", "colour", "slice", "offset", "tilt", "turn", "labels", "repeat"];

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of SAVED) {
    if (!given.has(key)) continue;
    const text = given.get(key);
    if (typeof state[key] === "boolean") state[key] = text === "true";
    else if (["offset", "tilt", "turn", "opacity", "level"].includes(key)) state[key] = Number.isFinite(Number(text)) ? Number(text) : state[key];
    else state[key] = text;
  }
  if (given.has("fields")) state.fields = given.get("fields").split(",").filter((name) => ["iri", "dori"].includes(name));
}

function writeAddress() {
  const kept = new URLSearchParams();
  for (const key of SAVED) if (state[key] !== null && state[key] !== "" && state[key] !== false) kept.set(key, state[key]);
  if (state.fields.length) kept.set("fields", state.fields.join(","));
  history.replaceState(null, "", `#${kept}`);
}

// ---- asking ------------------------------------------------------------------------------------------------------

function say(text) { $("status").textContent = text; }

function fail(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? error.message : "";
}

async function run(start, doing) {
  if (running) await api.cancel(running).catch(() => {});
  fail(null);
  const turn = ++fresh;
  $("busy").hidden = false;
  $("busy-text").textContent = doing;
  $("bar").value = 0;
  const began = performance.now();
  try {
    const { id } = await start();
    running = id;
    const result = await api.finished(id, (status) => {
      $("bar").value = status.progress;
      $("busy-text").textContent = status.state === "waiting" ? `Waiting, ${status.ahead} before this one` : `${doing} ${Math.round(100 * status.progress)} %`;
    });
    if (turn !== fresh) return null;
    await show(id, result);
    say(`${result.label}: ready after ${((performance.now() - began) / 1000).toFixed(1)} s`);
    return id;
  } catch (error) {
    if (turn !== fresh) return null;
    if (error instanceof api.Cancelled) say("Cancelled.");
    else { fail(error); say(""); }
    return null;
  } finally {
    if (turn === fresh) { running = null; $("busy").hidden = true; }
  }
}

function predict() {
  const asked = { spacing: Number(state.spacing), fields: state.fields };
  if (upload) asked.upload = upload.id; else asked.structure = state.structure;
  return run(() => api.predict(asked), "Predicting");
}

async function open(file) {
  fail(null);
  say(`Reading ${file.name}…`);
  try {
    const { limits } = settings;
    if (file.size > limits.max_upload_bytes) throw new Error(`${file.name}: at most ${limits.max_upload_bytes / 2 ** 20} MB are taken`);
    upload = await api.upload(file);
    state.structure = "";
    $("structure").value = "";
    state.field = upload.has_density ? "difference" : "density";
    state.level = null;
    state.fields = [];
    await predict();
  } catch (error) { fail(error); say(""); }
}

// ---- showing -----------------------------------------------------------------------------------------------------

async function show(id, result) {
  shown = { id, result };
  document.body.classList.add("shown");
  $("welcome").hidden = true;
  $("look").disabled = false;
  $("facts").hidden = false;
  if (!result.fields.includes(state.field)) { state.field = result.fields.includes("difference") ? "difference" : "density"; state.level = null; }
  options($("field"), result.fields, settings.fields, state.field);
  const colours = result.fields.filter((name) => ["iri", "dori", "difference", "deformation"].includes(name));
  if (!colours.includes(state.colour)) state.colour = "none";
  options($("colour"), ["none", ...colours], { none: "plain", ...settings.fields }, state.colour);
  $("derive").hidden = result.fields.includes("iri") || !upload && !state.structure;
  $("repeat-row").hidden = !result.pbc.some(Boolean);
  if ($("repeat-row").hidden) state.repeat = false;
  facts(id, result);
  await atoms(true);
  await surfaces();
  await cut();
  writeAddress();
}

function options(select, names, labels, chosen) {
  select.replaceChildren(...names.map((name) => new Option(labels[name] ?? name, name, false, name === chosen)));
}

const cells = () => (state.repeat ? 2 : 1);

async function atoms(zoom) {
  sceneData = await api.scene(shown.id, cells());
  const { charges } = shown.result;
  const label = (symbol, atom) => (charges ? `${symbol} ${charges[atom] > 0 ? "+" : ""}${charges[atom].toFixed(2)}` : symbol);
  scene.atoms(sceneData, { zoom, labels: state.labels ? label : null });
  scene.render();
}

function levelBounds() {
  const [low, high, typical] = shown.result.ranges[state.field];
  const top = Math.max(Math.abs(low), Math.abs(high), 1e-6);
  if (state.field === "iri") return [0.2, 5];
  if (state.field === "dori") return [0.05, 0.99];
  return SIGNED.has(state.field) ? [Math.max(typical / 300, 1e-6), top] : [1e-3, Math.max(0.9 * high, 2e-3)];
}

function defaultLevel() {
  const typical = shown.result.ranges[state.field][2];
  return { density: 0.3, reference: 0.3, iri: 1.6, dori: 0.9, deformation: 0.08 }[state.field] ?? Math.max(typical, 1e-5);
}

function showLevel() {
  const [low, high] = levelBounds();
  state.level = Math.min(Math.max(state.level ?? defaultLevel(), low), high);
  const slider = $("level");
  slider.value = Math.round(1000 * Math.log(state.level / low) / Math.log(high / low));
  const unit = UNITS[state.field] ?? " e/Å³";
  const text = `${SIGNED.has(state.field) ? "±" : ""}${state.level.toPrecision(3)}${unit}`;
  $("level-text").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  $("field-hint").textContent = HINTS[state.field] ?? "";
  $("colour").disabled = SIGNED.has(state.field);
}

const latest = (task) => { // the newest call wins, and older ones are given up
  let abort = null, waiting = null;
  return async () => {
    abort?.abort();
    const mine = abort = new AbortController();
    try { await task(mine.signal); } catch (error) { if (error.name !== "AbortError") fail(error); }
  };
};

const surfaces = latest(async (signal) => {
  if (!shown) return;
  showLevel();
  const n = cells(), signed = SIGNED.has(state.field);
  const colour = signed ? "none" : state.colour;
  const query = (level) => ({ field: state.field, level, a: n, b: n, c: n, ...(colour === "none" ? {} : { colour }) });
  const meshes = await Promise.all((signed ? [state.level, -state.level] : [state.level]).map((level) => api.surface(shown.id, query(level), signal)));
  const scale = colour === "none" ? null : scaleOf(colour, shown.result.ranges[colour]);
  const opacity = state.opacity / 100;
  scene.setSurfaces(meshes.map((mesh, i) => ({ mesh, scale, opacity, colour: signed ? [GAIN, LOSS][i] : SINGLE })));
  scene.render();
  const drawn = meshes.reduce((sum, mesh) => sum + mesh.faces.length / 3, 0);
  $("view").setAttribute("aria-label", `${shown.result.formula}: ${settings.fields[state.field]}, surface at ${$("level-text").textContent}, ${drawn} triangles`);
  $("view").dataset.triangles = drawn;
});

const PIXELS = 161;

const cut = latest(async (signal) => {
  $("cut").hidden = !state.slice;
  $("slice-controls").hidden = !state.slice;
  if (!shown) return;
  if (!state.slice) { scene.setPlane(null); scene.render(); return; }
  const lengths = shown.result.cell.map((v) => Math.hypot(...v)), size = Math.max(...lengths);
  const offset = state.offset / 100 * size / 2;
  for (const [id, text] of [["offset", `${offset.toFixed(2)} Å`], ["tilt", `${state.tilt}°`], ["turn", `${state.turn}°`]]) {
    $(`${id}-text`).textContent = text;
    $(id).setAttribute("aria-valuetext", text);
  }
  const found = await api.slice(shown.id, { field: state.field, tilt: state.tilt, turn: state.turn, offset, size, pixels: PIXELS }, signal);
  const scale = scaleOf(state.field, shown.result.ranges[state.field]);
  paint($("cut-canvas"), PIXELS, PIXELS, (column, row) => found.values[(PIXELS - 1 - row) * PIXELS + column], scale);
  paint($("cut-bar"), 320, 1, (column) => column, { map: scale.map, share: (x) => x / 319 });
  $("cut-low").textContent = scale.low.toPrecision(2);
  $("cut-unit").textContent = scale.unit;
  $("cut-high").textContent = scale.high.toPrecision(2);
  $("cut-canvas").setAttribute("aria-label", `Slice through ${shown.result.formula}, ${offset.toFixed(2)} Å from the centre`);
  scene.setPlane({ ...found, size, pixels: PIXELS, scale });
  scene.render();
});

function paint(canvas, width, height, value, scale) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const x = value(column, row), i = 4 * (row * width + column);
      if (Number.isNaN(x)) continue;
      mapped(scale.map, scale.share(x)).forEach((c, k) => { image.data[i + k] = 255 * c; });
      image.data[i + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function facts(id, result) {
  $("title").textContent = `${result.label} (${result.formula})`;
  const rows = [["Electrons", `${result.n_electrons.toFixed(2)}${result.expected_electrons ? ` of ${result.expected_electrons}` : ""}`]];
  if (result.dipole_debye !== undefined) rows.push(["Dipole moment", `${result.dipole_debye.toFixed(2)} D`]);
  if (result.eps_mae !== undefined) rows.push(["Difference", `${result.eps_mae.toFixed(2)} % of all electrons`]);
  rows.push(["Grid", `${result.shape.join(" × ")}, ${result.spacing.toFixed(2)} Å`], ["Time taken", `${result.seconds.toFixed(2)} s`]);
  $("numbers").replaceChildren(...rows.flatMap(([name, text]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name; dd.textContent = text;
    return [dt, dd];
  }));
  const trust = [];
  if (result.expected_electrons) {
    const off = Math.abs(result.n_electrons / result.expected_electrons - 1) * 100;
    trust.push([off > 1, off > 1 ? `The predicted density holds ${off.toFixed(1)} % more or fewer electrons than the atoms have: do not rely on it.`
      : `The predicted density holds the right number of electrons to ${Math.max(off, 0.01).toFixed(2)} %.`]);
  }
  for (const text of result.warnings) trust.push([true, text]);
  trust.push([false, "The model is trained on neutral structures in their ground state; it does not know of charges or excited states."]);
  $("trust-list").replaceChildren(...trust.map(([bad, text]) => {
    const item = document.createElement("li");
    item.textContent = text;
    if (bad) item.className = "warn";
    return item;
  }));
  $("charges-box").hidden = !result.charges;
  $("charges").replaceChildren(...(result.charges ?? []).map((charge, i) => {
    const row = document.createElement("tr"), name = document.createElement("td"), value = document.createElement("td");
    name.textContent = `${sceneSymbols(result)[i] ?? ""} ${i}`;
    value.textContent = `${charge > 0 ? "+" : ""}${charge.toFixed(3)}`;
    row.append(name, value);
    return row;
  }));
  $("python").textContent = result.python;
  for (const kind of ["cube", "chgcar", "h5"]) $(`get-${kind}`).href = `api/predictions/${id}/file?kind=${kind}&field=${state.field}`;
}

const sceneSymbols = (result) => result.symbols ?? [];

// ---- events ------------------------------------------------------------------------------------------------------

function onInput(id, key, then, read = (element) => Number(element.value)) {
  $(id).addEventListener("input", (event) => { state[key] = read(event.target); then(); writeAddress(); });
}

function listen() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("structure").value.trim();
    if (text) { upload = null; state.structure = text; state.fields = []; state.level = null; state.field = "density"; }
    else if (!upload) { fail(new Error("Type the name of a molecule or a SMILES, or open a file.")); $("structure").focus(); return; }
    predict();
  });
  $("cancel").addEventListener("click", () => running && api.cancel(running).catch(fail));
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });
  onInput("spacing", "spacing", () => {}, (element) => element.value);
  onInput("field", "field", () => { state.level = null; surfaces(); cut(); facts(shown.id, shown.result); }, (element) => element.value);
  onInput("colour", "colour", surfaces, (element) => element.value);
  onInput("level", "level", surfaces, (element) => { const [low, high] = levelBounds(); return low * (high / low) ** (Number(element.value) / 1000); });
  onInput("opacity", "opacity", surfaces);
  onInput("labels", "labels", redraw, (element) => element.checked);
  onInput("repeat", "repeat", redraw, (element) => element.checked);
  onInput("slice", "slice", cut, (element) => element.checked);
  for (const key of ["offset", "tilt", "turn"]) onInput(key, key, cut);
  $("derive").addEventListener("click", () => { state.fields = ["iri", "dori"]; state.colour = "iri"; predict(); });
  $("keep").addEventListener("click", () => {
    kept = shown;
    $("kept").textContent = `Kept: ${kept.result.label}. Show another one now.`;
    $("compare").disabled = false;
  });
  $("compare").addEventListener("click", () => {
    state.field = "difference"; state.level = null;
    run(() => api.compare(kept.id, shown.id), "Comparing");
  });
  $("get-png").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = scene.png();
    link.download = `${shown.result.formula}_${state.field}.png`;
    link.click();
  });
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("python").textContent).then(() => say("Copied."), () => fail(new Error("the browser did not allow copying: select the text instead")));
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
    });
  }
  window.addEventListener("hashchange", () => { readAddress(); controls(); if (state.structure) { upload = null; predict(); } });
}

async function redraw() {
  if (!shown) return;
  await atoms(false);
  await surfaces();
  await cut();
}

function controls() {
  $("structure").value = state.structure;
  $("spacing").value = state.spacing;
  if (!$("spacing").value) { state.spacing = "0.2"; $("spacing").value = "0.2"; }
  for (const id of ["opacity", "offset", "tilt", "turn"]) $(id).value = state[id];
  for (const id of ["labels", "repeat", "slice"]) $(id).checked = state[id];
}

let settings;

async function begin() {
  try {
    settings = await api.info();
    $("model").textContent = settings.model;
    $("examples").replaceChildren(...settings.examples.map((name) => new Option(name, name)));
    $("chips").replaceChildren(...["water", "ethanol", "benzene", "caffeine"].map((name) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = name;
      chip.addEventListener("click", () => { $("structure").value = name; $("ask").requestSubmit(); });
      return chip;
    }));
    scene = new Scene($("view"));
    readAddress();
    controls();
    listen();
    if (state.structure) await predict();
    document.body.dataset.ready = "true";
  } catch (error) { fail(error); }
}

begin();
