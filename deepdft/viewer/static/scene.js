// A three-dimensional picture: atoms, bonds, cell, surfaces and the slice plane, drawn by 3Dmol.

import { mapped, onScheme } from "./colour.js";

const triples = (array) => {
  const list = new Array(array.length / 3);
  for (let i = 0; i < list.length; i++) list[i] = { x: array[3 * i], y: array[3 * i + 1], z: array[3 * i + 2] };
  return list;
};
const point = (p) => ({ x: p[0], y: p[1], z: p[2] });
const css = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

const CAMERA = 150; // where 3Dmol has its camera
const MOST_VERTICES = 60000; // 3Dmol counts vertices with 16 bits, and loses colours where it splits a mesh itself

// A mesh as several with fewer vertices each.
function split(mesh) {
  if (mesh.vertices.length / 3 <= MOST_VERTICES) return [mesh];
  const parts = [], { vertices, normals, faces, values } = mesh, perPart = Math.floor(MOST_VERTICES / 3) * 3;
  for (let first = 0; first < faces.length; first += perPart) {
    const chosen = faces.subarray(first, first + perPart), of = new Map();
    for (const v of chosen) if (!of.has(v)) of.set(v, of.size);
    const old = [...of.keys()];
    const rows = (array) => Float32Array.from(old.flatMap((v) => [array[3 * v], array[3 * v + 1], array[3 * v + 2]]));
    parts.push({ vertices: rows(vertices), normals: rows(normals), faces: chosen.map((v) => of.get(v)),
      values: values && Float32Array.from(old, (v) => values[v]) });
  }
  return parts;
}

export class Scene {
  constructor(element) {
    this.element = element;
    this.viewer = window.$3Dmol.createViewer(element, { antialias: true });
    this.surfaces = [];
    this.arrow = this.plane = this.start = null;
    this.background();
    onScheme(() => this.background());
    new ResizeObserver(() => this.viewer.resize()).observe(element);
  }

  // Opaque: surfaces over nothing would be paler than over atoms.
  background() { this.viewer.setBackgroundColor(css("--stage") || "#ffffff", 1); }

  render() { this.viewer.render(); }

  atoms(scene, { zoom, labels, colour, dipole }) {
    this.viewer.removeAllModels();
    this.viewer.removeAllLabels();
    this.viewer.removeAllShapes();
    this.surfaces = [];
    this.plane = null;
    const bonds = scene.positions.map(() => []);
    for (const [i, j] of scene.bonds) { bonds[i].push(j); bonds[j].push(i); }
    this.viewer.addModel().addAtoms(scene.positions.map((p, index) => (
      { ...point(p), elem: scene.symbols[index], index, serial: index, bonds: bonds[index], bondOrder: bonds[index].map(() => 1) })));
    const colorfunc = (atom) => colour(scene.symbols[atom.index], scene.atoms[atom.index]);
    this.viewer.setStyle({}, { stick: { radius: 0.11, colorfunc }, sphere: { scale: 0.22, colorfunc } });
    for (const [start, end] of scene.edges) {
      this.viewer.addCylinder({ start: point(start), end: point(end), radius: 0.025, color: "#8a949c", fromCap: 1, toCap: 1 });
    }
    if (dipole) this.addDipole(scene.positions, dipole);
    if (labels) {
      scene.positions.forEach((p, i) => this.viewer.addLabel(labels(scene.symbols[i], scene.atoms[i]), {
        position: point(p), fontSize: 12, backgroundColor: "#10161c", backgroundOpacity: 0.78, fontColor: "white", inFront: true, alignment: "center",
      }));
    }
    if (zoom) this.toStart(scene);
  }

  // Every call that moves the view draws, so there are few.
  toStart({ positions, orientation }) {
    this.viewer.zoomTo();
    const [x, y, z, distance] = this.viewer.getView(), { clientWidth, clientHeight } = this.element;
    const closer = (positions.length > 1 ? 0.82 : 0.25) * Math.min(1, 0.95 * clientWidth / clientHeight); // zoomTo looks at the height only
    this.viewer.setView([x, y, z, CAMERA - (CAMERA - distance) / closer, ...orientation]);
    this.start = this.viewer.getView();
  }

  addDipole(positions, moment) {
    const middle = [0, 1, 2].map((k) => positions.reduce((sum, p) => sum + p[k], 0) / positions.length);
    const at = (share) => point(middle.map((x, k) => x + share * moment[k])); // 1 Å per debye
    this.viewer.addArrow({ start: at(-0.5), end: at(0.5), radius: 0.07, radiusRatio: 2.4, mid: 0.82, color: "#b04fc0" });
  }

  // Replace the surfaces: [{ mesh, colour, opacity, scale }]
  setSurfaces(list) {
    for (const shape of this.surfaces) this.viewer.removeShape(shape);
    this.surfaces = [];
    for (const { mesh, colour, opacity, scale } of list) {
      if (mesh.faces.length === 0) continue;
      for (const part of split(mesh)) {
        const spec = {
          vertexArr: triples(part.vertices), normalArr: triples(part.normals), faceArr: Array.from(part.faces), color: colour, opacity,
        };
        if (part.values && scale) spec.colorArr = colours(part.values, scale);
        this.surfaces.push(this.add(spec));
      }
    }
  }

  add(spec) {
    const shape = this.viewer.addCustom(spec);
    if (spec.colorArr) shape.color = undefined; // else 3Dmol paints the whole mesh in one colour
    return shape;
  }

  // Replace the slice plane; whether there is anything new to draw.
  setPlane(plane) {
    const before = this.plane;
    if (before) this.viewer.removeShape(before);
    this.plane = null;
    if (!plane) return before !== null;
    const { values, right, up, centre, size, pixels, scale } = plane;
    const vertexArr = [], faceArr = [];
    const normal = [right[1] * up[2] - right[2] * up[1], right[2] * up[0] - right[0] * up[2], right[0] * up[1] - right[1] * up[0]];
    for (let row = 0; row < pixels; row++) {
      for (let column = 0; column < pixels; column++) {
        const a = (column / (pixels - 1) - 0.5) * size, b = (row / (pixels - 1) - 0.5) * size;
        vertexArr.push({ x: centre[0] + a * right[0] + b * up[0], y: centre[1] + a * right[1] + b * up[1], z: centre[2] + a * right[2] + b * up[2] });
        const i = row * pixels + column;
        if (row > 0 && column > 0 && ![i, i - 1, i - pixels, i - pixels - 1].some((k) => Number.isNaN(values[k]))) {
          faceArr.push(i - pixels - 1, i - pixels, i, i - pixels - 1, i, i - 1);
        }
      }
    }
    if (faceArr.length === 0) return before !== null;
    const normalArr = vertexArr.map(() => point(normal));
    this.plane = this.add({ vertexArr, normalArr, faceArr, colorArr: colours(values, scale), color: "#ffffff", opacity: 0.9 });
    return true;
  }

  turn(angle, axis) { this.viewer.rotate(angle, axis); }
  zoom(factor) { this.viewer.zoom(factor); }
  home() { if (this.start) { this.viewer.setView(this.start); this.render(); } }
  spin(on) { this.viewer.spin(on ? "y" : false, 0.5); }

  png() { return this.viewer.pngURI(); }

  get position() { return this.viewer.getView(); }
  set position(view) { this.viewer.setView(view); }
  onMove(then) { this.viewer.setViewChangeCallback(then); }
}

function colours(values, scale) {
  return Array.from(values, (x) => {
    const [r, g, b] = mapped(scale.map, scale.share(Number.isNaN(x) ? 0 : x));
    return { r, g, b };
  });
}

// Turning one turns the other.
export function link(first, second) {
  first.viewer.linkViewer(second.viewer);
  second.viewer.linkViewer(first.viewer);
}
