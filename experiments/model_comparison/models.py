"""What is compared: data groups, models with their settings, and what is changed in ablations."""

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
    "data.density_share=0.5",
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
MANY_ORBITALS = [*ORBITAL, "model.n_orbitals=48"]  # the default before `lighter` had been run
MODELS = {
    "orbital": ORBITAL,
    "schnet": SETTINGS["schnet-shifted-lr-5e-3"],
    "painn": SETTINGS["painn-superposition"],
}
LONG = MODELS | {
    "painn": [*PAINN, "optimizer.lr=1e-3", "model.baseline=superposition"],  # 2e-3 diverges after 2700 steps
}
LONG_FROM = 12.0  # minutes of training
EFFICIENCY = {  # model, steps, and the run with all training structures
    "orbital": (ORBITAL, 6160, "lighter/K-12"),
    "schnet": (MODELS["schnet"], 5949, "sets/qm9_small-schnet"),
    "painn": (MODELS["painn"], 1801, "sets/qm9_small-painn"),
}

ABLATIONS = {
    key: [*MANY_ORBITALS, *changes]
    for key, changes in {
        "none": [],
        "seed-1": ["seed=1"],
        "no-squares": ["model.n_orbitals=0"],
        "positive": ["model.residual=false"],
        "mse": ["loss=mse"],
        "uniform-points": ["data.density_share=0"],
        "L-1": ["model.max_order=1"],
        "L-2": ["model.max_order=2"],
        "L-4": ["model.max_order=4"],
        "K-12": ["model.n_orbitals=12"],
        "K-96": ["model.n_orbitals=96"],
        "radial-6": ["model.n_radial=6"],
        "radial-16": ["model.n_radial=16"],
        "cutoff-4": ["model.cutoff=4"],
        "cutoff-6": ["model.cutoff=6"],
        "widest-0.15": ["model.smallest_exponent=0.15"],
        "widest-0.5": ["model.smallest_exponent=0.5"],
        "narrowest-30": ["model.largest_exponent=30"],
        "narrowest-300": ["model.largest_exponent=300"],
        "learned-exponents": ["model._target_=exponents.LearnedExponents"],
        "slater": ["model._target_=exponents.Slater"],
        "element-contractions": ["model._target_=exponents.ElementContractions"],
    }.items()
}

REGULARISED_STEPS = {"qm9_small": 2500, "nmc": 2000}
WITH_ADAMW = ["optimizer=adamw", *(part for part in ORBITAL if part != "optimizer=adam")]
REGULARISED = {
    "none": ORBITAL,
    "T-1": [*ORBITAL, "model.n_interactions=1"],
    "T-2": [*ORBITAL, "model.n_interactions=2"],
    "H-32": [*ORBITAL, "model.hidden_size=32"],
    "weight-decay-0.3": [*WITH_ADAMW, "optimizer.weight_decay=0.3"],
    "weight-decay-1": [*WITH_ADAMW, "optimizer.weight_decay=1.0"],
}

LIGHTER_STEPS = 6160  # what eight minutes were for the default
LIGHTER = {
    key: [*MANY_ORBITALS, *changes]
    for key, changes in {
        "K-12": ["model.n_orbitals=12"],
        "K-24": ["model.n_orbitals=24"],
        "K-12-cutoff-4": ["model.n_orbitals=12", "model.cutoff=4"],
        "radial-8-K-12": ["model.n_orbitals=12", "model.n_radial=8"],
    }.items()
}
