"""A basis of atom-centred functions, and sums of them over atoms at many points: over edges, or in blocks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from deepdft.graph.batch import ProbeGraph, Structures
from deepdft.graph.blocks import Blocks
from deepdft.graph.on_device import point_blocks
from deepdft.nn.fast import enabled, single_on_cpu
from deepdft.nn.orbital_blocks import sums_in_blocks
from deepdft.nn.orbital_edges import sums_at_edges
from deepdft.nn.shells import Shell, orthogonal, radial_functions, shells
from deepdft.nn.spherical import (
    degrees,
    harmonics_as_monomials,
    monomial_factors,
    solid_harmonics,
)

__all__ = ["OrbitalBasis"]


class OrbitalBasis(nn.Module):
    """Functions R_n(r) S_lm(r) with R_n = exp(-α_n r²) (1 - r²/reach_n²)³, and their sums over atoms.

    Everything is a smooth function of r² and a polynomial of x, y, z, twice differentiable at an atom and at the reach.

    Args:
        n_radial: number of R_n.
        l_max: L, largest degree l of S_lm.
        smallest_exponent: α of the widest Gaussian, Å⁻²; the others follow in a geometric series.
        largest_exponent: α of the narrowest Gaussian, Å⁻².
        cutoff: largest reach, Å.
    """

    compiled: ClassVar[bool] = True
    """Whether the compiled loops compute these R_n; a subclass with another `radial` sets it to False."""

    exponents: Tensor
    reaches: Tensor
    degree_of: Tensor
    mixing: Tensor
    monomials: Tensor
    factors: Tensor

    def __init__(
        self, n_radial: int, *, l_max: int, smallest_exponent: float, largest_exponent: float, cutoff: float
    ) -> None:
        super().__init__()
        self.l_max = l_max
        exponents = np.geomspace(smallest_exponent, largest_exponent, n_radial)
        self.shells = shells(exponents, cutoff)
        reaches = np.concatenate([np.full(len(exponents[shell.radials]), shell.reach) for shell in self.shells])
        mixing = np.stack([orthogonal(exponents, reaches, degree) for degree in range(l_max + 1)])
        monomials = harmonics_as_monomials(l_max).numpy()
        constants = {"exponents": exponents, "reaches": reaches, "mixing": mixing, "monomials": monomials}
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(values).to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("degree_of", torch.tensor(degrees(l_max)), persistent=False)
        self.register_buffer("factors", monomial_factors(l_max), persistent=False)

    @property
    def reach(self) -> float:
        """Å, beyond which all functions are zero."""
        return self.shells[0].reach

    def mixed(self, amplitudes: Tensor) -> Tensor:
        """Coefficients of R_n S_lm from amplitudes of nearly orthogonal combinations of them.

        Neighbouring Gaussians are nearly the same function, so a small change of the density can be a large one of
        their coefficients. A network finds amplitudes much faster.

        Args:
            amplitudes: (n_atoms, (L + 1)², n_radial, n_orbitals).

        Returns:
            (n_atoms, n_radial, (L + 1)², n_orbitals).
        """
        return (self.mixing.index_select(0, self.degree_of) @ amplitudes).transpose(1, 2)

    def forward(self, coefficients: Tensor, positions: Tensor, probes: ProbeGraph) -> Tensor:
        """Values of orbitals (n_probes, n_orbitals) at probes.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
            positions: (n_atoms, 3) of the atoms, Å.
            probes: the points, with edges from all atoms within the cutoff.
        """
        return sums_at_edges(coefficients, positions, probes, self)

    def has_fast_edges(self, *places: Tensor) -> bool:
        """Whether sums over edges use compiled loops: on a CPU in single precision, without gradients."""
        fixed = *places, self.exponents
        gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in fixed)
        return enabled() and self.compiled and not gradients and single_on_cpu(*fixed)

    def in_blocks(self, coefficients: Tensor, blocks: Blocks) -> Tensor:
        """Values of orbitals (n_points, n_orbitals) at points close together; every atom is evaluated at every point.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
            blocks: the points.
        """
        return sums_in_blocks(coefficients, blocks, self)

    def at_edges_of_blocks(self, coefficients: Tensor, blocks: Blocks) -> Tensor:
        """Values of orbitals at points further apart, where each atom is evaluated only at points that it reaches.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals).
            blocks: the points.

        Returns:
            (n_points, n_orbitals), block after block.
        """
        image, point = blocks.pairs_within(self.reach)
        atoms, row = blocks.atom.unique(return_inverse=True)
        # positions are those of images relative to the middle of their block: shifts of atoms at the origin
        probes = ProbeGraph(
            positions=blocks.points,
            structure=torch.zeros_like(blocks.index),
            edge_index=torch.stack([row.index_select(0, image), point]),
            edge_shift=blocks.atom_positions.index_select(0, image),
        )
        return self(coefficients.index_select(0, atoms), coefficients.new_zeros(len(atoms), 3), probes)

    def squares_on_gpu(
        self, coefficients: Tensor, structures: Structures, points: Tensor, linear: Tensor, signs: Tensor
    ) -> Tensor:
        """Density Σ_k linear_ck φ_k + signs_ck φ_k² at points of one structure, without edges and derivatives.

        Args:
            coefficients: (n_atoms, n_radial, (L + 1)², n_orbitals), single precision on a GPU.
            structures: the one structure.
            points: (n_points, 3) Å, at least one.
            linear: (n_channels, n_orbitals).
            signs: (n_channels, n_orbitals).

        Returns:
            (n_points, n_channels).
        """
        from deepdft.nn.fast.orbital_gpu import (  # needs Triton, which is not available everywhere
            BLOCK,
            density_of_blocks,
        )

        blocks = point_blocks(structures, points, self.reach, size=BLOCK)
        atoms, row = blocks.atom.unique(return_inverse=True)
        # in double precision, which neither autocast nor TF32 lowers
        own = coefficients.index_select(0, atoms).double()
        of_monomials = torch.einsum("anik,ij->ajnk", own, self.monomials.double()).to(structures.dtype)
        density = density_of_blocks(
            blocks.points,
            blocks.image_offsets,
            row,
            blocks.atom_positions,
            of_monomials,
            self.exponents,
            self.reaches,
            linear,
            signs,
            l_max=self.l_max,
        )
        return density.new_empty(len(points), len(linear)).index_copy(0, blocks.index, density)

    def functions(self, radial: Tensor, vectors: Tensor) -> Tensor:
        """Functions R_n S_lm (n, n_functions, size), from R_n (n, n_radial, size) and vectors (n, 3, size)."""
        return (radial[:, :, None] * solid_harmonics(vectors, self.l_max, dim=1)[:, None]).flatten(1, 2)

    def radial(self, squared: Tensor, shell: Shell) -> Tensor:
        """Radial functions R_n of a shell (n, n_radial, size), from r² (n, 1, size)."""
        return radial_functions(squared, self.exponents[shell.radials, None], shell.reach)
