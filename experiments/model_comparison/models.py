"""The data groups and models that are compared, with their settings, and the changes of the ablations."""

SETS = {  # store → data group and more
    "qm9_small": ["qm9"],
    "qm9_large": ["qm9"],
    "qm9": ["qm9"],
    "ec": ["ethylene_carbonate"],
    "nmc": ["nmc"],
}
TRAINING = [
    "loss=l1",
    "optimizer=adam",
    "scheduler=warmup_cosine",
    "trainer.gradient_clip_val=1.0",
    "data.importance_fraction=0.5",
]
SCHNET = [*TRAINING, "model=schnet", "model.hidden_size=64", "model.n_interactions=3"]
PAINN = [*TRAINING, "model=painn", "model.hidden_size=64", "model.n_interactions=3"]

SETTINGS = {
    "schnet": [*SCHNET, "optimizer.lr=2e-3"],
    "schnet-shifted": [*SCHNET, "optimizer.lr=2e-3", "model.shifted=true"],
    "schnet-shifted-lr-5e-3": [*SCHNET, "optimizer.lr=5e-3", "model.shifted=true"],
    "schnet-shifted-fitted": [*SCHNET, "optimizer.lr=2e-3", "model.shifted=true", "model.baseline=fitted"],
    "schnet-shifted-paper-size": [*TRAINING, "model=schnet", "optimizer.lr=1e-3", "model.shifted=true"],
    "painn": [*PAINN, "optimizer.lr=2e-3"],
    "painn-fitted": [*PAINN, "optimizer.lr=2e-3", "model.baseline=fitted"],
    "painn-superposition": [*PAINN, "optimizer.lr=2e-3", "model.baseline=superposition"],
    "painn-lr-5e-3": [*PAINN, "optimizer.lr=5e-3"],
    "painn-paper-size": [*TRAINING, "model=painn", "optimizer.lr=1e-3"],
}
ORBITAL = [*TRAINING, "model=orbital", "optimizer.lr=2e-3", "scheduler.warmup=0.02"]
MODELS = {
    "orbital": ORBITAL,
    "schnet": SETTINGS["schnet-shifted-lr-5e-3"],
    "painn": SETTINGS["painn-superposition"],
}
LONG = MODELS | {
    "painn": [*PAINN, "optimizer.lr=1e-3", "model.baseline=superposition"],  # 2e-3 diverges after 2700 steps
}
NARROW, WIDE = "model.smallest_exponent=1.0", "model.hidden_size=128"
OF_SET = {  # dense matter; wide where there are many structures
    "ec": {"narrow": [*ORBITAL, NARROW], "wide": [*ORBITAL, WIDE]},
    "nmc": {"narrow": [*ORBITAL, NARROW], "narrow-wide": [*ORBITAL, NARROW, WIDE]},
}
LONG_FROM = 12.0  # minutes of training
ABLATIONS = {
    key: [*ORBITAL, *changes]
    for key, changes in {
        "none": [],
        "seed-1": ["seed=1"],
        "no-squares": ["model.n_orbitals=0"],
        "positive": ["model.residual=false"],
        "mse": ["loss=mse"],
        "uniform-points": ["data.importance_fraction=0"],
        "no-products": ["model._target_=exponents.NoProducts"],
        "L-1": ["model.l_max=1"],
        "L-2": ["model.l_max=2"],
        "L-4": ["model.l_max=4"],
        "T-2": ["model.n_interactions=2"],
        "T-4": ["model.n_interactions=4"],
        "H-128": ["model.hidden_size=128"],
        "K-48": ["model.n_orbitals=48"],
        "radial-8": ["model.n_radial=8"],
        "cutoff-4": ["model.cutoff=4"],
        "widest-0.25": ["model.smallest_exponent=0.25"],
        "widest-1": ["model.smallest_exponent=1"],
        "learned-exponents": ["model._target_=exponents.LearnedExponents"],
        "slater": ["model._target_=exponents.Slater"],
        "element-contractions": ["model._target_=exponents.ElementContractions"],
    }.items()
}

CRYSTAL_STEPS = 2000
CRYSTALS = {
    key: ABLATIONS[key] for key in ("none", "no-products", "widest-0.25", "widest-1", "T-2", "cutoff-4", "H-128")
}
