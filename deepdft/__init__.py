"""deepdft: machine-learned electronic charge densities."""
