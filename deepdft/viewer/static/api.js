// Requests to the server. Every failure becomes an Error with a sentence for the visitor.

export class Cancelled extends Error {}

async function answer(response) {
  if (response.ok) return response;
  let text = `the server answered ${response.status}`;
  try { text = (await response.json()).error ?? text; } catch { /* no JSON: keep the number */ }
  throw new Error(text);
}

async function ask(url, options) {
  let response;
  try { response = await fetch(url, options); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: is deepdft-view still running?");
  }
  return answer(response);
}

const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const info = async () => (await ask("api/info")).json();
export const upload = async (file) =>
  (await ask(`api/uploads?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file })).json();
export const predict = async (asked) => (await ask("api/predictions", json(asked))).json();
export const compare = async (first, second) => (await ask("api/comparisons", json({ first, second }))).json();
export const cancel = async (id) => (await ask(`api/predictions/${id}`, { method: "DELETE" })).json();

export async function finished(id, onProgress) {
  for (;;) {
    const status = await (await ask(`api/predictions/${id}?wait=10`)).json();
    if (status.state === "done") return status.result;
    if (status.state === "cancelled") throw new Cancelled("cancelled");
    if (status.state === "failed") throw new Error(status.error);
    onProgress(status);
  }
}

export const scene = async (id, n, which) => (await ask(`api/predictions/${id}/scene?a=${n}&b=${n}&c=${n}&which=${which}`)).json();
export const fileAddress = (id, kind, field) => `api/predictions/${id}/file?kind=${kind}&field=${field}`;
export const printAddress = (id, query) => `api/predictions/${id}/surface?${new URLSearchParams({ ...query, form: "stl" })}`;

export async function surface(id, query, signal) {
  const response = await ask(`api/predictions/${id}/surface?${new URLSearchParams(query)}`, { signal });
  const nVertices = Number(response.headers.get("X-Vertices")), nFaces = Number(response.headers.get("X-Faces"));
  const buffer = await response.arrayBuffer();
  const at = (offset, length, type) => new type(buffer, offset, length);
  const faces = at(24 * nVertices, 3 * nFaces, Uint32Array);
  const end = 24 * nVertices + 12 * nFaces;
  return {
    vertices: at(0, 3 * nVertices, Float32Array), normals: at(12 * nVertices, 3 * nVertices, Float32Array), faces,
    values: buffer.byteLength > end ? at(end, nVertices, Float32Array) : null,
  };
}

export async function slice(id, query, signal) {
  const response = await ask(`api/predictions/${id}/slice?${new URLSearchParams(query)}`, { signal });
  const vector = (name) => response.headers.get(name).split(",").map(Number);
  return { values: new Float32Array(await response.arrayBuffer()), right: vector("X-Right"), up: vector("X-Up"), centre: vector("X-Centre") };
}
