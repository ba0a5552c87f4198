// What can be drawn: names, explanations, levels.

export const SIGNED = new Set(["difference", "deformation"]);
export const DERIVED = ["iri", "dori"];
export const SIDE_BY_SIDE = "both";

const LABELS = { density: "Electrons", deformation: "Bonding", iri: "Interactions", dori: "Overlap", spread: "Spread", reference: "File", difference: "Difference", both: "Side by side" };

// Name of a way of drawing; those of a comparison are called after what is compared.
export function labelOf(mode, result) {
  if (mode === "density" && result.labels) return short(result.labels[0]);
  if (mode === "reference" && result.labels) return short(result.labels[1]);
  return LABELS[mode];
}

const short = (text) => (text.length > 16 ? `${text.slice(0, 15)}…` : text);

export const HINTS = {
  density: "Electrons per cubic ångström. Low values enclose the whole molecule, high values the bonds and nuclei.",
  deformation: "Where electrons went when the bonds formed, compared with free atoms side by side.",
  spread: "Where the members of the ensemble disagree: the standard deviation of their densities.",
  reference: "The density that is compared with, at the same value.",
  difference: "Where one density has more electrons than the other.",
  both: "Both densities, cut at the same value. Turning one turns the other.",
  iri: "Surfaces of a low interaction region indicator (1.56 is 1 in atomic units) lie in bonds and in contacts.",
  dori: "The density overlap regions indicator is near 1 where the densities of atoms overlap.",
};

export const COLOURS = { none: "default", deformation: "bonding", difference: "difference", spread: "spread", iri: "IRI", dori: "DORI", sign_lambda2_rho: "interaction" };

export const unitOf = (mode) => (DERIVED.includes(mode) ? "" : " e/Å³");

// The ways of drawing that a result has, or can have after it is computed again with more fields.
export function modesOf(result) {
  const has = (field) => result.fields.includes(field);
  const derivable = DERIVED.filter((field) => has(field) || result.derivable);
  return ["density", ...(has("deformation") ? ["deformation"] : []), ...derivable, ...(has("spread") ? ["spread"] : []),
    ...(has("difference") ? ["reference", "difference", SIDE_BY_SIDE] : [])];
}

export const fieldsOf = (mode) => (mode === SIDE_BY_SIDE ? ["density", "reference"] : [mode]);

export function levelBounds(mode, ranges) {
  const [low, high, typical] = ranges[fieldsOf(mode)[0]];
  const top = Math.max(Math.abs(low), Math.abs(high), 1e-6);
  if (mode === "iri") return [0.2, 3];
  if (mode === "dori") return [0.5, 0.99];
  return SIGNED.has(mode) || mode === "spread" ? [Math.max(Math.min(typical / 100, top / 10), 1e-6), top] : [1e-2, Math.max(0.9 * high, 2e-2)];
}

export function defaultLevel(mode, ranges) {
  const typical = ranges[fieldsOf(mode)[0]][2];
  return { density: 0.3, reference: 0.3, both: 0.3, iri: 1.56, dori: 0.95, deformation: 0.1 }[mode] ?? Math.max(typical / 2, 1e-5);
}
