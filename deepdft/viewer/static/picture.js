// Draws a finished prediction as the state has it: atoms, surfaces, slice, legend.

import * as api from "./api.js";
import { GAIN, LOSS, mapped, ofCharge, ofElement, ofNovelty, scaleOf, single } from "./colour.js";
import { DERIVED, HINTS, SIDE_BY_SIDE, SIGNED, defaultLevel, fieldsOf, labelOf, levelBounds, unitOf } from "./fields.js";
import { Scene, link } from "./scene.js";
import { state } from "./state.js";

const $ = (id) => document.getElementById(id);
const PIXELS = 161;

export class Picture {
  constructor(onError) {
    this.onError = onError;
    this.first = new Scene($("view"));
    this.second = null;
    this.surfaces = this.latest((signal) => this.drawSurfaces(signal));
    this.cut = this.latest((signal) => this.drawSlice(signal));
  }

  // The newest call wins, and older ones are given up.
  latest(task) {
    let abort = null;
    return async () => {
      if (!this.shown) return;
      abort?.abort();
      abort = new AbortController();
      const { signal } = abort;
      try { await task(signal); } catch (error) { if (!signal.aborted) this.onError(error); }
    };
  }

  get scenes() { return state.field === SIDE_BY_SIDE ? [this.first, this.second] : [this.first]; }
  get cells() { return state.repeat ? 2 : 1; }

  async show(shown) {
    this.shown = shown;
    await this.all(true);
  }

  async all(zoom = false) {
    if (!this.shown) return;
    this.arrange();
    await this.atoms(zoom);
    await this.surfaces();
    await this.cut();
  }

  // One view, or two of which each follows the other.
  arrange() {
    const both = state.field === SIDE_BY_SIDE, { labels } = this.shown.result;
    const changed = $("view-second").hidden === both;
    $("view-second").hidden = !both;
    $("name-first").hidden = $("name-second").hidden = !both;
    if (both && !this.second) { this.second = new Scene($("view-second")); link(this.first, this.second); }
    if (both) [$("name-first").textContent, $("name-second").textContent] = labels ?? ["Prediction", "File"];
    if (changed) for (const scene of this.scenes) scene.viewer.resize();
    return changed;
  }

  async atoms(zoom) {
    const { id, result } = this.shown, { charges } = result;
    const which = ["first", "second"];
    const data = await Promise.all(this.scenes.map((_, i) => api.scene(id, this.cells, which[i])));
    this.scenes.forEach((scene, i) => {
      const own = i === 0; // charges, trust and dipole moment are those of the first
      const label = (symbol, atom) => (charges && own ? `${symbol}${atom + 1} ${signed(charges[atom], 2)}` : `${symbol}${atom + 1}`);
      const before = scene.start && !zoom ? scene.position : null;
      scene.atoms(data[i], { zoom: zoom || !scene.start, labels: state.labels ? label : null, colour: own ? paint(result) : ofElement,
        dipole: state.dipole && own ? result.dipole_vector_debye : null });
      if (before) scene.position = before;
      if (i > 0) scene.position = this.first.position;
    });
    if (zoom && state.view) this.first.position = state.view;
    if (!zoom) for (const scene of this.scenes) scene.render();
  }

  bounds() { return levelBounds(state.field, this.shown.result.ranges); }

  showLevel() {
    const [low, high] = this.bounds();
    state.level = Math.min(Math.max(state.level ?? defaultLevel(state.field, this.shown.result.ranges), low), high);
    const slider = $("level"), sign = SIGNED.has(state.field) ? "±" : "";
    slider.value = Math.round(1000 * Math.log(state.level / low) / Math.log(high / low));
    const text = `${sign}${state.level.toPrecision(state.level < 1 ? 2 : 3)}${unitOf(state.field)}`;
    $("level-text").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    $("field-hint").textContent = HINTS[state.field];
    $("colour").disabled = SIGNED.has(state.field);
  }

  // What the surface is coloured by: interactions by their kind, unless something else was chosen.
  colourField() {
    const { fields } = this.shown.result;
    if (SIGNED.has(state.field)) return null;
    if (DERIVED.includes(state.field) && state.colour === "none") return "sign_lambda2_rho";
    return fields.includes(state.colour) ? state.colour : null;
  }

  query(field, level) {
    const n = this.cells, colour = this.colourField();
    return { field, level, a: n, b: n, c: n, ...(colour ? { colour } : {}) };
  }

  async drawSurfaces(signal) {
    this.showLevel();
    const { id, result } = this.shown, isSigned = SIGNED.has(state.field), colour = this.colourField();
    const levels = isSigned ? [state.level, -state.level] : [state.level];
    const scale = colour ? scaleOf(colour, result.ranges[colour]) : null;
    let triangles = 0;
    const drawn = await Promise.all(this.scenes.map((_, i) =>
      Promise.all(levels.map((level) => api.surface(id, this.query(fieldsOf(state.field)[i], level), signal)))));
    if (signal.aborted) return;
    this.scenes.forEach((scene, i) => {
      scene.setSurfaces(drawn[i].map((mesh, k) => ({ mesh, scale, opacity: state.opacity / 100, colour: isSigned ? [GAIN, LOSS][k] : single() })));
      scene.render();
      triangles += drawn[i].reduce((sum, mesh) => sum + mesh.faces.length / 3, 0);
    });
    const what = labelOf(state.field, result);
    $("view").setAttribute("aria-label", `${result.formula}: ${what}, surface at ${$("level-text").textContent}, ${triangles} triangles`);
    $("view").dataset.triangles = triangles;
    this.legend(colour, scale);
  }

  legend(colour, scale) {
    const { result } = this.shown, { labels } = result, box = $("legend");
    const chip = (shade, text) => {
      const item = Object.assign(document.createElement("span"), { className: "chip" }), dot = document.createElement("i");
      dot.style.background = shade;
      item.append(dot, text);
      return item;
    };
    box.replaceChildren();
    if (state.field === "deformation") box.append(chip(GAIN, "electrons gained"), chip(LOSS, "electrons lost"));
    else if (state.field === "difference") {
      const [first, second] = labels ?? ["the prediction", "the file"];
      box.append(chip(GAIN, `more in ${first}`), chip(LOSS, `more in ${second}`));
    } else if (colour) {
      const ramp = document.createElement("canvas");
      ramp.setAttribute("aria-hidden", "true");
      bar(ramp, scale);
      box.append(...(colour === "sign_lambda2_rho" ? ["bond", ramp, "crowding; in the middle weak contacts"]
        : [scale.low.toPrecision(2), ramp, `${scale.high.toPrecision(2)} ${scale.unit}`]));
    }
    if (state.paint === "trust" && result.trust?.novelty) {
      box.append(chip(ofNovelty(0), "atoms as in the training set"), chip(ofNovelty(1), "at its edge"), chip(ofNovelty(2), "unlike it"));
    }
    if (state.paint === "charge" && result.charges) box.append(chip(ofCharge(-0.5), "negative atoms"), chip(ofCharge(0.5), "positive atoms"));
    box.hidden = box.childNodes.length === 0;
  }

  async drawSlice(signal) {
    $("slice-controls").hidden = !state.slice;
    if (!state.slice) {
      if (this.first.setPlane(null)) this.first.render();
      return;
    }
    const { id, result } = this.shown, field = fieldsOf(state.field)[0], n = this.cells;
    const size = result.extent * n, offset = state.offset / 100 * size / 2;
    state.tilt ??= result.plane.tilt;
    state.turn ??= result.plane.turn;
    for (const [control, value, text] of [["offset", state.offset, `${offset.toFixed(2)} Å`], ["tilt", state.tilt, `${state.tilt}°`], ["turn", state.turn, `${state.turn}°`]]) {
      $(control).value = value;
      $(`${control}-text`).textContent = text;
      $(control).setAttribute("aria-valuetext", text);
    }
    const found = await api.slice(id, { field, tilt: state.tilt, turn: state.turn, offset, size, pixels: PIXELS, a: n, b: n, c: n }, signal);
    if (signal.aborted) return;
    const scale = scaleOf(field, result.ranges[field]);
    paintSlice($("cut-canvas"), found.values, scale);
    bar($("cut-bar"), scale);
    $("cut-low").textContent = scale.low.toPrecision(2);
    $("cut-unit").textContent = scale.unit;
    $("cut-high").textContent = scale.high.toPrecision(2);
    $("cut-canvas").setAttribute("aria-label", `Slice through ${result.formula}, ${offset.toFixed(2)} Å from the centre, tilted by ${state.tilt}°, turned by ${state.turn}°`);
    this.first.setPlane({ ...found, size, pixels: PIXELS, scale });
    this.first.render();
  }
}

export const signed = (value, digits) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;

// Colours of atoms, from symbol and index.
function paint(result) {
  if (state.paint === "charge" && result.charges) return (_, atom) => ofCharge(result.charges[atom]);
  if (state.paint === "trust" && result.trust?.novelty) return (_, atom) => ofNovelty(result.trust.novelty[atom]);
  return ofElement;
}

function bar(canvas, scale) {
  [canvas.width, canvas.height] = [320, 1];
  fill(canvas, (column) => mapped(scale.map, column / 319));
}

const FINER = 3; // pixels of the picture for each value

// The values of a slice, with contour lines where a value of `lines` lies between neighbours.
function paintSlice(canvas, values, scale) {
  const n = FINER * (PIXELS - 1) + 1, fine = new Float32Array(n * n), band = new Uint8Array(n * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      const value = between(values, column / FINER, (n - 1 - row) / FINER), i = row * n + column;
      fine[i] = value;
      for (const line of scale.lines) if (value > line) band[i]++;
    }
  }
  canvas.width = canvas.height = n;
  fill(canvas, (column, row) => {
    const i = row * n + column;
    if (Number.isNaN(fine[i])) return null;
    const line = (column > 0 && band[i - 1] !== band[i]) || (row > 0 && band[i - n] !== band[i]);
    return mapped(scale.map, scale.share(fine[i])).map((c) => (line ? (c > 0.5 ? 0.6 * c : 0.3 + 0.7 * c) : c));
  });
}

// Bilinear interpolation; x and y in values from the corner.
function between(values, x, y) {
  const i = Math.min(Math.floor(x), PIXELS - 2), j = Math.min(Math.floor(y), PIXELS - 2), s = x - i, t = y - j, at = j * PIXELS + i;
  return (1 - t) * ((1 - s) * values[at] + s * values[at + 1]) + t * ((1 - s) * values[at + PIXELS] + s * values[at + PIXELS + 1]);
}

function fill(canvas, colour) {
  const { width, height } = canvas, context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const found = colour(column, row), i = 4 * (row * width + column);
      if (!found) continue;
      found.forEach((c, k) => { image.data[i + k] = 255 * c; });
      image.data[i + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}
