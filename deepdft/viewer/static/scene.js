// The three-dimensional picture: atoms, bonds, cell, surfaces and the slice plane, drawn by 3Dmol.

import { mapped } from "./colour.js";

const triples = (array) => {
  const list = new Array(array.length / 3);
  for (let i = 0; i < list.length; i++) list[i] = { x: array[3 * i], y: array[3 * i + 1], z: array[3 * i + 2] };
  return list;
};

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
    this.viewer = window.$3Dmol.createViewer(element, { antialias: true });
    this.surfaces = [];
    this.plane = null;
    this.background();
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.background(); this.render(); });
    new ResizeObserver(() => this.viewer.resize()).observe(element);
  }

  background() {
    this.viewer.setBackgroundColor(getComputedStyle(document.body).getPropertyValue("--stage").trim() || "#ffffff", 1);
  }

  render() { this.viewer.render(); }

  atoms(scene, { zoom, labels }) {
    this.viewer.removeAllModels();
    this.viewer.removeAllLabels();
    this.viewer.removeAllShapes();
    this.surfaces = [];
    this.plane = null;
    const lines = scene.positions.map((p, i) => `${scene.symbols[i]} ${p.map((x) => x.toFixed(5)).join(" ")}`);
    this.viewer.addModel(`${lines.length}\n\n${lines.join("\n")}\n`, "xyz");
    this.viewer.setStyle({}, { stick: { radius: 0.12 }, sphere: { scale: 0.23 } });
    for (const [start, end] of scene.edges) {
      const point = (p) => ({ x: p[0], y: p[1], z: p[2] });
      this.viewer.addLine({ start: point(start), end: point(end), color: "#7a8794" });
    }
    if (labels) {
      scene.positions.forEach((p, i) => this.viewer.addLabel(labels(scene.symbols[i], scene.atoms[i]), {
        position: { x: p[0], y: p[1], z: p[2] }, fontSize: 12, backgroundColor: "#10161c", backgroundOpacity: 0.75,
        fontColor: "white", inFront: true, alignment: "center",
      }));
    }
    if (zoom) this.viewer.zoomTo();
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
        if (part.values && scale) {
          spec.colorArr = Array.from(part.values, (x) => {
            const [r, g, b] = mapped(scale.map, scale.share(x));
            return { r, g, b };
          });
        }
        this.surfaces.push(this.add(spec));
      }
    }
  }

  add(spec) {
    const shape = this.viewer.addCustom(spec);
    if (spec.colorArr) shape.color = undefined; // else 3Dmol paints the whole mesh in one colour
    return shape;
  }

  setPlane(plane) {
    if (this.plane) this.viewer.removeShape(this.plane);
    this.plane = null;
    if (!plane) return;
    const { values, right, up, centre, size, pixels, scale } = plane;
    const step = 2, n = Math.floor((pixels - 1) / step) + 1, vertexArr = [], colorArr = [], faceArr = [];
    const normal = [right[1] * up[2] - right[2] * up[1], right[2] * up[0] - right[0] * up[2], right[0] * up[1] - right[1] * up[0]];
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        const a = (column * step / (pixels - 1) - 0.5) * size, b = (row * step / (pixels - 1) - 0.5) * size;
        const [x, y, z] = [0, 1, 2].map((k) => centre[k] + a * right[k] + b * up[k]);
        vertexArr.push({ x, y, z });
        const value = values[row * step * pixels + column * step];
        const [r, g, bl] = Number.isNaN(value) ? [0.5, 0.5, 0.5] : mapped(scale.map, scale.share(value));
        colorArr.push({ r, g, b: bl });
        const inside = row > 0 && column > 0 && !Number.isNaN(value);
        if (inside) {
          const i = row * n + column;
          faceArr.push(i - n - 1, i - n, i, i - n - 1, i, i - 1);
        }
      }
    }
    if (faceArr.length === 0) return;
    const normalArr = vertexArr.map(() => ({ x: normal[0], y: normal[1], z: normal[2] }));
    this.plane = this.add({ vertexArr, normalArr, faceArr, colorArr, color: "#ffffff", opacity: 0.95 });
  }

  png() { return this.viewer.pngURI(); }
  get position() { return this.viewer.getView(); }
  set position(view) { this.viewer.setView(view); }
}
