"""The sizes of chunks: the one place that decides how many atoms, edges or points are processed at once.

Chunks bound memory, keep what is worked on in the cache, and give each thread its share. None of the sizes changes a
result beyond rounding. "Measured" is on two cores of an AVX-512 server, or on an H200.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CPU", "GPU", "Chunks", "on"]


@dataclass
class Chunks:
    """The sizes of chunks on one kind of device."""

    edges_searched: int
    """Edges from atoms to points in one search; a model may decode them in smaller chunks.

    CPU, measured: a point takes 0.4 µs in graphs of this size and 1.1 µs in ones of 15 000 edges.
    """
    edges_decoded: int
    """Edges in one call of a model's `decode`, about 0.1 kB × hidden size each."""
    edges_differentiated: int
    """Edges in one call of `decode` with derivatives with respect to the points."""
    distances: int
    """Distances between points and atom images that are computed in one array; on a GPU 90 bytes each."""
    points_in_blocks: int
    """Points in one call of a model that decodes blocks of points; on a GPU 0.2 kB each."""
    wave_vectors: int
    """Fourier components of a density that are summed at once, 30 bytes each; on a CPU they stay in the cache."""

    images_without_tree: int = 2000
    """Atom images up to which all distances are computed, 1.4 ns each; a tree takes 1 µs a point and 0.3 µs a pair."""
    points_per_tree: int = 10_000
    """Points in a k-d tree; larger ones fall out of the cache (measured: fastest between 5 and 20 thousand)."""
    matrix_rows: int = 8192
    """Rows of a product with a 3 × 3 matrix; up to about thirty thousand, OpenBLAS stays on one thread."""
    edges_encoded: int = 65_536
    """Edges between atoms whose equivariant messages are held in memory together."""
    atoms_encoded: int = 1024
    """Atoms whose orbital coefficients or updates are computed together: some 4 kB for each orbital of an atom."""
    numbers_in_block: int = 500_000
    """Sums over atoms at the points of a block (points × functions × orbitals), which stay in the cache (measured)."""
    blocks_per_group: int = 64
    """Blocks that are made and decoded together; some tens of thousands of points."""
    points_per_sparse_group: int = 8000
    """Points of a group of blocks whose points are joined to atoms by edges; in a crystal a hundred edges each."""
    min_points: int = 256
    """Smallest number of points in a chunk, where edges are many."""
    max_points: int = 200_000
    """Largest number of points in a chunk, where edges are few."""
    max_points_of_threads: int = 1_000_000
    """Largest number of points in the chunks of all threads together."""
    chunks_per_thread: int = 4
    """Chunks per thread; chunks differ in work, as some have more atoms around them."""
    points_by_edges: int = 4096
    """Points in one search for edges, where a chunk has as many points as a model with blocks takes."""
    points_differentiated: int = 1000
    """Points in blocks whose derivatives are computed together, up to 0.4 MB each (measured: with 200 half as fast)."""
    points_of_fields: int = 100_000
    """Points that are cut into blocks together for derived fields; a few planes of a grid make compact blocks."""
    points_in_slab: int = 4_000_000
    """Grid points of a slab, the most that a killed prediction loses; a few seconds for a model with blocks."""
    points_in_slab_by_edges: int = 500_000
    """Grid points of a slab for a model that decodes by edges, which takes longer."""
    points_scaled: int = 2**16
    """Grid points whose prediction is scaled to the exact electron count together; they stay in the cache."""
    points_in_dense_block: int = 1000
    """Points in a block above which blocks are faster than compiled loops over edges (measured: 900 to 1700)."""
    points_in_dense_cube: int = 30
    """Points in a cube above which blocks are faster than edges for derived fields (measured: four times with 300)."""
    bytes_in_columns: int = 2**18
    """Bytes of text in columns that are decoded together; they stay in a core's cache."""
    points_accumulated: int = 2**19
    """Grid points of all members of an ensemble that are held in memory together."""


CPU = Chunks(
    edges_searched=100_000,
    edges_decoded=16_000,
    edges_differentiated=15_000,
    distances=10_000_000,
    points_in_blocks=250_000,
    wave_vectors=50_000,
)
GPU = Chunks(
    edges_searched=2_000_000,
    edges_decoded=2_000_000,
    edges_differentiated=2_000_000,
    distances=20_000_000,
    points_in_blocks=2_000_000,
    wave_vectors=20_000_000,
)


def on(device_type: str) -> Chunks:
    """The sizes for a type of device, as torch calls it: "cpu" or "cuda"."""
    return GPU if device_type == "cuda" else CPU
