"""Building blocks of the models: radial functions, small networks, sums over neighbours."""
