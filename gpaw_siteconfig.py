"""How `make gpaw` builds GPAW: without MPI unless GPAW_MPI=1, whatever MPI compilers are on PATH.

GPAW's own default is MPI wherever it finds `mpic++`, which fails where that has no headers (Debian's openmpi-bin
alone). `deepdft-generate` calculates each structure in one process and needs no MPI.
"""

import os

mpi = os.environ.get("GPAW_MPI", "0") == "1"
compiler = "mpic++" if mpi else "g++"
libraries.append("blas")  # noqa: F821  GPAW's own list, to which it adds this where there is no such file
