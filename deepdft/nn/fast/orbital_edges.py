"""Sums of atom-centred functions over edges and their gradients, compiled, in single precision.

Edges are taken atom by atom, some dozens at a time: the atom's functions there are a matrix in the fastest cache, made
again for the gradient. Loops over edges come last, and their number is a constant: so they become vector instructions,
which loops over a dozen orbitals do not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepdft.compiled import compiled, inlined, reassociated
from deepdft.nn.fast.elementary import radial_function, smooth_end

__all__ = ["Basis", "Edges", "add_orbitals", "fill_coefficient_gradients"]

EDGES = 64
"""Edges processed together (measured: 128 take as long, 256 longer)."""
ROWS = 4
"""Rows of a matrix processed together: a sum is then loaded and stored a fourth as often."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


class Basis(NamedTuple):
    """Radial functions R_n = exp(-α r²) (1 - r²/reach²)³, and monomials M_j of x, y and z."""

    exponents: Floats
    """(n_radial,), α in Å⁻²."""
    reaches: Floats
    """(n_radial,) Å, equal within a shell and descending."""
    shells: Indices
    """(n_shells + 1,), where each shell starts among the radial functions."""
    factors: Indices
    """(n_monomials, 2): M_j is monomial number factors[j, 0] < j times coordinate factors[j, 1]; M_0 is 1."""


class Edges(NamedTuple):
    """Edges from atoms to points."""

    atom_positions: Floats
    """(n_atoms, 3) Å."""
    points: Floats
    """(n_points, 3) Å."""
    sender: Indices
    """(n_edges,), the atom of each edge."""
    receiver: Indices
    """(n_edges,), the point of each edge."""
    shift: Floats
    """(n_edges, 3) Å, added to the atom's position."""


@compiled
def add_orbitals(basis: Basis, edges: Edges, coefficients: Floats, orbitals: Floats) -> None:
    """Add Σ_a,n,j c_anjk R_n(|r - a|) M_j(r - a) over the edges (a, r) to the values at r.

    Args:
        basis: R_n and M_j.
        edges: from a to r.
        coefficients: (n_atoms, n_radial, n_monomials, n_orbitals).
        orbitals: (n_points, n_orbitals), to which is added.
    """
    n_atoms, shells = len(edges.atom_positions), basis.shells
    first, by_atom = _by_atom(edges.sender, n_atoms)
    vectors, probe = _room(first)
    functions, of_atom = _matrices(shells, len(basis.factors), orbitals.shape[1])
    values = np.empty((orbitals.shape[1], EDGES), np.float32)
    for a in range(n_atoms):
        n_near = _to_points(edges, a, by_atom[first[a] : first[a + 1]], vectors, probe)
        for s in range(len(shells) - 1):
            begin, end, reach = shells[s], shells[s + 1], basis.reaches[shells[s]]
            n_near = _within(reach, n_near, vectors, probe)
            n_rows = _rows((end - begin) * len(basis.factors))
            _take(coefficients, a, begin, end, of_atom)
            for start in range(0, n_near, EDGES):
                _evaluate(basis, begin, end, vectors, start, functions)
                values[:] = 0.0
                for j in range(0, n_rows, ROWS):
                    for k in range(len(values)):
                        c0, c1, c2, c3 = of_atom[j, k], of_atom[j + 1, k], of_atom[j + 2, k], of_atom[j + 3, k]
                        for e in range(EDGES):
                            values[k, e] += (
                                c0 * functions[j, e]
                                + c1 * functions[j + 1, e]
                                + c2 * functions[j + 2, e]
                                + c3 * functions[j + 3, e]
                            )
                for e in range(min(EDGES, n_near - start)):
                    for k in range(len(values)):
                        orbitals[probe[start + e], k] += values[k, e]


@reassociated  # the sum over edges is split into several
def fill_coefficient_gradients(basis: Basis, edges: Edges, gradient: Floats, grad_coefficients: Floats) -> None:
    """Fill in the gradients with respect to coefficients, given those of orbitals (n_points, n_orbitals)."""
    n_atoms, shells = len(edges.atom_positions), basis.shells
    first, by_atom = _by_atom(edges.sender, n_atoms)
    vectors, probe = _room(first)
    functions, grad_atom = _matrices(shells, len(basis.factors), gradient.shape[1])
    at_edges = np.empty((gradient.shape[1], EDGES), np.float32)
    for a in range(n_atoms):
        n_near = _to_points(edges, a, by_atom[first[a] : first[a + 1]], vectors, probe)
        for s in range(len(shells) - 1):
            begin, end, reach = shells[s], shells[s + 1], basis.reaches[shells[s]]
            n_near = _within(reach, n_near, vectors, probe)
            n_rows = (end - begin) * len(basis.factors)
            grad_atom[:] = 0.0
            for start in range(0, n_near, EDGES):
                _evaluate(basis, begin, end, vectors, start, functions)
                n_edges = min(EDGES, n_near - start)
                at_edges[:, n_edges:] = 0.0
                for e in range(n_edges):
                    for k in range(len(at_edges)):
                        at_edges[k, e] = gradient[probe[start + e], k]
                for j in range(n_rows):
                    for k in range(len(at_edges)):
                        total = np.float32(0.0)
                        for e in range(EDGES):
                            total += functions[j, e] * at_edges[k, e]
                        grad_atom[j, k] += total
            _put(grad_atom, a, begin, end, grad_coefficients)


@inlined
def _rows(count: int) -> int:
    """The smallest multiple of the step that is not below `count`."""
    return (count + ROWS - 1) // ROWS * ROWS


@compiled
def _by_atom(sender: Indices, n_atoms: int) -> tuple[Indices, Indices]:
    """Where the edges of each atom start (n_atoms + 1,) among those sorted by atom (n_edges,)."""
    first = np.zeros(n_atoms + 1, np.int64)
    for edge in range(len(sender)):
        first[sender[edge] + 1] += 1
    for a in range(n_atoms):
        first[a + 1] += first[a]
    by_atom, place = np.empty(len(sender), np.int64), first[:-1].copy()
    for edge in range(len(sender)):
        by_atom[place[sender[edge]]] = edge
        place[sender[edge]] += 1
    return first, by_atom


@compiled
def _room(first: Indices) -> tuple[Floats, Indices]:
    """Scratch memory for x, y, z, r² (4, n) and points (n,) of an atom's edges; zeroed, as padding is used too."""
    most = 0
    for a in range(len(first) - 1):
        most = max(most, first[a + 1] - first[a])
    return np.zeros((4, most + EDGES), np.float32), np.empty(most, np.int64)


@compiled
def _matrices(shells: Indices, n_monomials: int, n_orbitals: int) -> tuple[Floats, Floats]:
    """Scratch matrices for functions of a shell (n_rows, n_edges), and their coefficients (n_rows, n_orbitals)."""
    most = 0
    for s in range(len(shells) - 1):
        most = max(most, shells[s + 1] - shells[s])
    n_rows = _rows(most * n_monomials)
    return np.zeros((n_rows, EDGES), np.float32), np.zeros((n_rows, n_orbitals), np.float32)


@inlined
def _to_points(edges: Edges, a: int, of_atom: Indices, vectors: Floats, probe: Indices) -> int:
    """Fill in the vectors and points of an atom's edges, and return their number."""
    for i in range(len(of_atom)):
        edge = of_atom[i]
        r = edges.receiver[edge]
        x = edges.points[r, 0] - edges.atom_positions[a, 0] - edges.shift[edge, 0]
        y = edges.points[r, 1] - edges.atom_positions[a, 1] - edges.shift[edge, 1]
        z = edges.points[r, 2] - edges.atom_positions[a, 2] - edges.shift[edge, 2]
        vectors[0, i], vectors[1, i], vectors[2, i], vectors[3, i] = x, y, z, x * x + y * y + z * z
        probe[i] = r
    return len(of_atom)


@inlined
def _within(reach: float, n_edges: int, vectors: Floats, probe: Indices) -> int:
    """Move the edges within the reach to the front, and return their number."""
    kept, largest = 0, reach * reach
    for i in range(n_edges):
        squared = vectors[3, i]
        for c in range(4):
            vectors[c, kept] = vectors[c, i]
        probe[kept] = probe[i]
        kept += squared < largest
    return kept


@inlined
def _evaluate(basis: Basis, begin: int, end: int, vectors: Floats, start: int, functions: Floats) -> None:
    """Evaluate R_n M_j of a shell at `EDGES` edges; padding gets numbers too."""
    n_monomials, factors, reach = len(basis.factors), basis.factors, basis.reaches[begin]
    for n in range(begin, end):
        row, exponent = (n - begin) * n_monomials, basis.exponents[n]
        for e in range(EDGES):
            squared = vectors[3, start + e]
            functions[row, e] = radial_function(exponent, squared, smooth_end(squared, reach))
        for j in range(1, n_monomials):
            lower, coordinate = row + factors[j, 0], factors[j, 1]
            for e in range(EDGES):
                functions[row + j, e] = functions[lower, e] * vectors[coordinate, start + e]


@inlined
def _take(coefficients: Floats, a: int, begin: int, end: int, of_atom: Floats) -> None:
    """Copy the coefficients of a shell of an atom; padding rows are zero."""
    n_monomials = coefficients.shape[2]
    n_rows = (end - begin) * n_monomials
    of_atom[n_rows:] = 0.0
    for row in range(n_rows):
        of_atom[row] = coefficients[a, begin + row // n_monomials, row % n_monomials]


@inlined
def _put(grad_atom: Floats, a: int, begin: int, end: int, grad_coefficients: Floats) -> None:
    """Copy the gradients with respect to the coefficients of a shell of an atom to their places."""
    n_monomials = grad_coefficients.shape[2]
    for row in range((end - begin) * n_monomials):
        grad_coefficients[a, begin + row // n_monomials, row % n_monomials] = grad_atom[row]
